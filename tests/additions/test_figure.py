"""Addition of a figure: one file and one line."""

from pathlib import Path

import numpy as np
import pytest

from fgssl.errors import UserError
from fgssl.report.figures import FIGURES, draw
from fgssl.store.features import KeptFeatures, Origin
from tests.docs.pages import blocks
from tests.report.conftest import Out

FIGURE = blocks("docs/how-to/your-figure.md", "python")[0].text


def test_a_figure_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "figure_of_losses.py").write_text(FIGURE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FIGURES, "losses", "figure_of_losses")

    out = Out(tmp_path)
    out.finish("base", 0, 50.0)
    out.finish("base", 1, 60.0)
    kept = KeptFeatures(
        splits={"test": np.zeros((5, 3), np.float16)}, encoded_by={"test": "c1"}, origin=Origin(data_version="d1")
    )
    (out.folder("base", 0) / "features.safetensors").write_bytes(kept.to_bytes())
    (out.folder("base", 1) / "metrics.jsonl").write_text('{"step": 0, "loss": 2.5}\n{"step": 1, "loss": 1.5}\n')

    running = out.path / "runs" / out.planned("base", 2)["run"]
    running.mkdir()
    (running / "metrics.jsonl").write_text('{"step": 0, "lo')

    assert draw("losses", tmp_path) == (55.0, {("base", 0): (5, 3)}, {("base", 1): [2.5, 1.5]})
    (out.folder("base", 1) / "metrics.jsonl").write_text('{"step": 0, "loss": 2.5}\n{"step": 1, "lo')
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read as logged metrics"):
        draw("losses", tmp_path)
    with pytest.raises(UserError, match="unknown figure 'loses': did you mean 'losses'"):
        draw("loses", tmp_path)
