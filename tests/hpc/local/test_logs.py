"""Output of each run in the logs of jobs."""

from pathlib import Path
from typing import Any

import pytest

from hpc.local.logs import outputs


def test_lines_that_look_like_the_start_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_text(
        "starts\n---- arm, seed 0: run-a\nstep 1\n---- mine ----\nboom: run-a\n---- arm, seed 1: run-b\nb\n"
    )
    second.write_text("---- arm, seed 0: run-a\nagain\n")
    read: list[Path] = []
    text = Path.read_text

    def read_text(path: Path, **options: Any) -> str:
        read.append(path)
        return text(path, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert outputs({"run-a", "run-b", "run-c"}, [first, second]) == {
        "run-a": {first: ["step 1", "---- mine ----", "boom: run-a"], second: ["again"]},
        "run-b": {first: ["b"]},
        "run-c": {},
    }
    assert read == [first, second]
