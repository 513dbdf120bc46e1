"""Interrupted trainings end in the same bits, for any event and any number of processes."""

import time
from pathlib import Path

import pytest

from tests.distributed.interruptions import EVENTS, Runs, trials

CI_S = 240.0
"""Time after which no new trial starts; `python -m tests.distributed.interruptions 50` runs all of them."""


@pytest.mark.slow
def test_interrupted_at_random(tmp_path: Path) -> None:
    runs, began, done = Runs(tmp_path), time.monotonic(), []
    for index, trial in enumerate(trials(50, seed=0)):
        if time.monotonic() - began > CI_S and index >= len(EVENTS):
            break
        assert runs.interrupted(trial, f"trial-{index}") == runs.straight(trial.method), trial
        done.append(trial.event)
    assert set(done) == set(EVENTS)
