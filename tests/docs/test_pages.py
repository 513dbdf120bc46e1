"""Lists and code in the pages agree with the code."""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from fgssl.__main__ import COMMANDS
from fgssl.report.images import CLASSES, FLIPPED, IMAGES
from fgssl.report.tables import COLUMNS
from fgssl.settings.config import Config
from fgssl.settings.evaluation import MEASURES
from fgssl.settings.methods import METHODS
from tests.docs.pages import PAGES, ROOT, blocks, text


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 150


def test_the_readme_shows_the_method_file_of_the_guide() -> None:
    (shown,) = blocks("README.md", "python")
    assert shown.text == blocks("docs/how-to/your-method.md", "python")[0].text


def test_the_first_command_is_the_one_that_is_promised() -> None:
    command, _ = next(blocks("README.md", "console")[0].commands())
    assert command.endswith(" && .venv/bin/python -m fgssl.sweep sweeps/ablation_sigma.yaml")


def test_ci_runs_the_second_command_and_the_tests_it_leaves_out() -> None:
    (second,) = [line for line in text("README.md").splitlines() if line.startswith("$ ") and "-m pytest" in line]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert second.removeprefix("$ ") in lines
    (options,) = re.findall(r'^addopts = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert options.endswith("-m 'not slow and not slurm'")
    assert any("-m pytest -m 'slow or slurm'" in line for line in lines)
    assert any("sphinx-build -W -n " in line for line in lines)


def test_the_citation_and_the_changelog_name_this_version() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in text("CHANGELOG.md")


def _listed(page: str) -> set[str]:
    """Return the names in the first column of a page's tables."""
    return {
        name for row in re.findall(r"^\| (`.*?) \|", text(page), flags=re.M) for name in re.findall(r"`(.+?)`", row)
    }


def test_every_sweep_is_listed() -> None:
    listed = {name for name in _listed("docs/reference/sweeps.md") if name.endswith(".yaml")}
    assert listed == {file.name for file in (ROOT / "sweeps").glob("*.yaml")}


def test_every_method_and_measure_is_listed() -> None:
    assert _listed("docs/reference/methods.md") - {"method.name"} == set(METHODS)
    assert set(MEASURES) <= _listed("docs/reference/measures.md")


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("## Columns of `table.csv`", COLUMNS),
        ("| column of `images.csv`", IMAGES),
        ("| column of `classes.csv`", CLASSES),
        ("| column of `flipped.csv`", FLIPPED),
    ],
)
def test_every_column_is_explained(heading: str, columns: tuple[str, ...]) -> None:
    (_, after) = text("docs/reference/measures.md").split(heading)
    lines = after[after.index("|---|---|") :].split("\n\n")[0].splitlines()[1:]
    assert [name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])] == list(columns)


def test_every_command_is_in_the_reference() -> None:
    documented = re.findall(r"click:: (\S+)\n   :prog: fgssl (\w+)$", text("docs/reference/cli.md"), flags=re.M)
    assert {name: path for path, name in documented} == COMMANDS


def test_every_page_is_in_a_menu() -> None:
    menu = re.findall(r"^((?:how-to|reference|explanation)/[\w-]+|tutorial)$", text("docs/index.md"), flags=re.M)
    assert {f"docs/{name}.md" for name in menu} | {"README.md", "docs/index.md"} == set(PAGES)


def test_links_between_pages_lead_somewhere() -> None:
    """The build checks the links of `docs`; those of the README and the other top pages are checked here."""
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(page)):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{page}: {target}"


def test_every_setting_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.delitem(sys.modules, "settings_page", raising=False)
    import settings_page  # type: ignore[import-not-found]

    reference = settings_page.filled(text("docs/reference/settings.md"))
    sections = {field.name for field in dataclasses.fields(Config)}
    for name in sections:
        assert f"## `{name}`" in reference or f"{{confval}} {name}\n" in reference, name
    for name in METHODS:
        assert f"`method: {{name: {name}}}`" in reference
    entry = reference.split("{confval} training.global_batch_size\n")[1].split("````")[0]
    assert ":type: integer > 0\n:default: `128`\n" in entry
    assert "Negatives span the whole batch" in entry
    for name in ("queue_size", "level_weights", "noise.sigma_grad_cam", "base.momentum"):
        assert f"{{confval}} method.{name}\n" in reference
    assert ":type: `close` or `exact`\n" in reference
    assert Path(settings_page.__file__).parent == ROOT / "docs"
