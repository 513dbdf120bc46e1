"""House style: equal bytes each time, text that fits, and what is said without matplotlib."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import UserError
from fgssl.report.figures import FIGURES, draw, style
from tests.report.figures.conftest import Embedded
from tests.report.figures.test_curves import log, nuisances

DRAW_ALL = """
import sys
from pathlib import Path
import matplotlib
from fgssl.report.figures import FIGURES, draw, style
matplotlib.rcParams["font.size"] = float(sys.argv[3])  # of the user, without effect
for name in FIGURES:
    style.save(draw(name, Path(sys.argv[1])), Path(sys.argv[2]) / name)
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(embedded: Embedded, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    nuisances(embedded.out)
    embedded.out.content["metrics"] = ["linear_100", "linear_20", "nuisance_light"]
    embedded.out.write_plan()
    for cell in ("base", "sigma=0.1", "sigma=0.5"):
        embedded.finish(cell, 0, noise=0.5)
        embedded.add_weights(cell, 0)
        log(embedded.out, cell, 0, [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    hashes = []
    for number in (0, 1):
        for map_ in tmp_path.glob("runs/*/map-*"):
            map_.unlink()
        to = tmp_path / f"figures{number}"
        to.mkdir()
        arguments = [tmp_path, to, 9 + number]
        subprocess.run([sys.executable, "-W", "error", "-c", DRAW_ALL, *map(str, arguments)], check=True)
        hashes.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in to.iterdir()})
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "svg")}


def test_long_text_keeps_its_start_and_its_end() -> None:
    text = "grad_cam with a very long name and sigma_grad_cam=0.25"
    found = style.shortened(text, 1.0)
    assert found.startswith("grad")
    assert found.endswith("25")
    assert "…" in found
    assert style.text_width(found) <= 1.0
    assert style.shortened("short $x$", 1.0) == r"short \$x\$"


def test_letters_that_no_font_has_become_codes_and_a_remark(tidy: Callable[[Any], None]) -> None:
    @style.house_style
    def drawn(names: Sequence[str]) -> Any:
        figure, grid = style.panels(1, 1, width=style.TWO_COLUMNS, panel_height=1.0)
        grid[0, 0].set_title(style.plain("Гриб, μύκητας, \u0001\U000e0041"))
        return style.finish(figure, [{name: grid[0, 0].plot([0, 1])[0] for name in names}], "A note.")

    remark = "U+…: letters that no installed font has."
    figure = drawn(["Amanita \U000f0000x", "\U000f0001"])  # of private use, so that no font has them
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Amanita U+F0000 x", "U+F0001"]
    assert figure.axes[0].get_title(loc="left") == "Гриб, μύκητας,"
    assert figure.texts[0].get_text() == f"A note. {remark}"
    tidy(figure)
    assert drawn(["Amanita"]).texts[0].get_text() == "A note."
    assert remark in drawn(["\U000f0000" * 200]).texts[0].get_text()  # only parts of the codes fit


def test_letters_are_taken_from_installed_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    letter = "\u306e"  # in STIX, but not in DejaVu Sans
    for fallback, expected in (("no such font", "a U+306E"), ("STIXGeneral", "a の")):
        monkeypatch.setattr(style, "FALLBACK_FONTS", (fallback,))
        for cached in (style._fonts, style._drawable, style._advance):
            cached.cache_clear()
        assert style.plain(f"a {letter}") == expected
        assert style.text_width(expected) > 0
    monkeypatch.undo()
    for cached in (style._fonts, style._drawable, style._advance):
        cached.cache_clear()


def test_cells_look_different_from_each_other() -> None:
    looks = style.looks(map(str, range(28)))
    assert len({(look["color"], str(look["linestyle"])) for look in looks.values()}) == 28
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 28


def test_without_matplotlib_the_extra_is_named(
    finished: Callable[..., Embedded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finished({"base": [50.0]})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"figures need matplotlib: pip install 'fgssl\[report\]'"):
        draw("ablation", tmp_path)
