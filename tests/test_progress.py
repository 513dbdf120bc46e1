"""The progress of long steps: plain lines now and then, a bar on a terminal, nothing of short steps."""

import io
import sys

import pytest

from fgssl import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [100.0]
    monkeypatch.setattr("fgssl.progress.time.monotonic", lambda: now[0])
    return now


def test_a_short_step_prints_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("encode test", 3, "images") as advance:
        for _ in range(3):
            clock[0] += 3.0
            advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_long_step_prints_a_line_every_ten_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown("encode test", 300, "images") as advance:
        for _ in range(30):
            clock[0] += 1.0
            advance(10)
        clock[0] += 2.0
    assert capsys.readouterr().err.splitlines() == [
        "encode test: 100/300 images, 10 images/s, ETA 20 s",
        "encode test: 200/300 images, 10 images/s, ETA 10 s",
        "encode test: 300/300 images, 10 images/s, ETA 0 s",
        "encode test: 300/300 images in 32 s",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.shown("linear probe", 2, "epochs") as outer:
        with progress.shown("encode train", 7, "images") as inner:  # a step within another one
            inner(7)
            (bars,) = progress._bars
            assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
                ("linear probe", 0, 2),
                ("encode train", 7, 7),
            ]
        outer(1)
        assert [(task.description, task.completed) for task in bars.tasks] == [("linear probe", 1)]
    assert "linear probe" in terminal.getvalue()
    assert progress._bars == []


def test_an_error_takes_the_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ZeroDivisionError), progress.shown("kNN", 2, "images"):
        raise ZeroDivisionError
    assert progress._bars == []


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.silent("kNN", 2, "images") as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")
