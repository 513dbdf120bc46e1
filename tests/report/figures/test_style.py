"""House style: equal bytes each time, text that fits, and what is said without matplotlib."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
