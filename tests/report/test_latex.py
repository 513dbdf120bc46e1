"""table.tex: TeX sets it, with every character of the names as it stands."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fgssl.report.latex import latex
from fgssl.report.layout import Block, Layout

ODD = r"a_b & 50 % #1 $x$ {y} ~z ^2 \w <v> `u` --out"
IN_PDF = str.maketrans({"~": "˜", "^": "ˆ", "_": None, " ": None})
"""TeX's first fonts have accents for tilde and circumflex, and a line for an underscore."""
DOCUMENT = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table.tex}\end{document}"


@pytest.fixture
def programs() -> None:
    """Skip the test where TeX or poppler is missing."""
    if missing := [name for name in ("pdflatex", "pdftotext") if shutil.which(name) is None]:
        packages = "texlive-latex-base texlive-latex-recommended poppler-utils"
        reason = f"{', '.join(missing)} not installed: apt-get install --no-install-recommends {packages}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compiled(layout: Layout, folder: Path) -> tuple[str, str]:
    """Return the text of the PDF and the log of TeX."""
    (folder / "table.tex").write_text(latex(layout), encoding="ascii")
    (folder / "main.tex").write_text(DOCUMENT)
    run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex", folder=folder)
    return run("pdftotext", "-layout", "main.pdf", "-", folder=folder), (folder / "main.log").read_text("latin-1")


@pytest.mark.usefixtures("programs")
def test_odd_characters_are_set_as_they_stand(tmp_path: Path) -> None:
    lines = [[ODD, "63.03 ± 3.46", "-1.50"], ["[σ=0.5] †", "–", "+2.00 ± 0.10"]]
    block = Block(f"Caption {ODD}", ["cell", "rank_1", "mAP"], lines, frozenset({(0, 1)}), frozenset({(1, 2)}))
    layout = Layout(f"Title {ODD}", [block, block], [f"Note {ODD}", "α β-1 τ = -0.5"])
    text, _ = compiled(layout, tmp_path)
    packed = re.sub(r"\s", "", text)
    for place, count in {"Title": 1, "Caption": 2, "Note": 1, "mAP": 2}.items():
        assert packed.count(place + ODD.translate(IN_PDF)) == count, text
    assert text.count("63.03 ± 3.46") == text.count("−1.50") == text.count("[σ=0.5]") == 2
    assert "α β-1 τ = −0.5" in text


@pytest.mark.usefixtures("programs")
def test_a_wide_table_fits_the_line(tmp_path: Path) -> None:
    header = ["cell", *(f"linear_{number}" for number in range(9))]
    block = Block("Caption", header, [["grad_cam sigma_grad_cam=0.25", *["63.03 ± 3.46"] * 9]])
    text, log = compiled(Layout("Title", [block], []), tmp_path)
    assert text.count("63.03 ± 3.46") == 9
    assert "Overfull" not in log
