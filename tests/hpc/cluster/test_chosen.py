"""The runs that a user names for `cancel`, `retry` and `logs`."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fgssl.commands.cancel import command as cancel
from fgssl.errors import UserError
from hpc.cluster.cluster_sweep import chosen

LABELS = [
    *(f"{cell}, seed {seed}" for cell in ("base", "baseline", "grid sigma=0.1", "grid sigma=0.15") for seed in (1, 10)),
    "grid rate=-1, seed 11",
    "pretrain, seed 1 + start, seed 1",
]
SWEEP: Any = SimpleNamespace(
    name="s", runs=[SimpleNamespace(label=label, run=f"mocov2-seed1-{n}") for n, label in enumerate(LABELS)]
)


@pytest.mark.parametrize(
    ("part", "labels"),
    [
        ("seed 1", [label for label in LABELS if label.endswith("seed 1")]),
        ("seed 11", ["grid rate=-1, seed 11"]),
        ("base", ["base, seed 1", "base, seed 10"]),
        ("sigma=0.1", ["grid sigma=0.1, seed 1", "grid sigma=0.1, seed 10"]),
        ("rate=-1", ["grid rate=-1, seed 11"]),
        ("pretrain", ["pretrain, seed 1 + start, seed 1"]),
        (LABELS[3], [LABELS[3]]),
        (LABELS[-1], [LABELS[-1]]),
        ("mocov2-seed1-4", [LABELS[4]]),
    ],
)
def test_whole_words_of_a_label_or_a_name(part: str, labels: list[str]) -> None:
    assert [run.label for run in chosen(SWEEP, [part])] == labels


@pytest.mark.parametrize("part", ["", " ", "bas", "seed 2", "sigma=0", "mocov2", "mocov2-seed1", ".*", "rate="])
def test_a_part_that_names_no_run(part: str) -> None:
    with pytest.raises(
        UserError, match=r"^no run of sweep s has the whole words .* labels are 'base, seed 1', .*, \.\.\.$"
    ):
        chosen(SWEEP, [part])


def test_all_runs_without_a_part_and_each_run_once() -> None:
    assert chosen(SWEEP, []) == SWEEP.runs
    assert len(chosen(SWEEP, ["base", "base, seed 1"])) == 2


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "parts", "canceled"),
    [
        (_Terminal("\n"), ("base",), 0),
        (_Terminal(""), ("base",), 0),
        (_Terminal("y\n"), ("base",), 2),
        (_Terminal(""), ("base, seed 1", "base, seed 10"), 2),
        (_Terminal(""), (), len(LABELS)),
        (io.StringIO(""), ("base",), 2),
    ],
)
def test_a_terminal_is_asked_where_several_runs_fit(
    stdin: io.StringIO, parts: tuple[str, ...], canceled: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    taken: list[str] = []
    for run in SWEEP.runs:
        run.done = lambda out: False
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("fgssl.commands.cancel.cluster_sweep", SimpleNamespace(read=lambda out: SWEEP))
    monkeypatch.setattr("fgssl.commands.cancel.cancel", lambda out, runs: taken.extend(runs))
    assert cancel.callback is not None
    cancel.callback(out=Path("out"), runs=parts)
    assert len(taken) == canceled
    printed = capsys.readouterr().out
    asked = stdin.isatty() and len(parts) == 1
    assert printed.startswith("base, seed 1\nbase, seed 10\ncancel these 2 runs? [y/N] ") == asked
    assert printed.endswith(f"{canceled} runs canceled\n" if canceled else "give more of a run's label\n")
