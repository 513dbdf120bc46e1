"""The page of figures: it names each figure, shows all pictures, and they are small."""

import re

from fgssl.report.figures import FIGURES
from tests.docs.pages import ROOT, text

PAGE = "docs/how-to/figures.md"
MOST_BYTES = 60_000


def test_the_page_names_and_shows_each_figure() -> None:
    page = text(PAGE)
    assert set(re.findall(r"^\*\*`(\w+)`\*\*", page, flags=re.M)) == set(FIGURES)
    assert {name for name in FIGURES if re.search(rf"pictures/\w+-{name}\.png", page)} == set(FIGURES)


def test_pictures_are_shown_and_small() -> None:
    files = list((ROOT / "docs" / "pictures").iterdir())
    assert sorted(f"../pictures/{file.name}" for file in files) == sorted(re.findall(r"\.\./pictures/\S+", text(PAGE)))
    assert {file.name: file.stat().st_size for file in files if file.stat().st_size > MOST_BYTES} == {}
