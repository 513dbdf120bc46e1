"""A short run of `python -m tests.slurm.chaos`, which documents the events."""

import os

import pytest

from tests.slurm.chaos import chaos

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_everything_goes_wrong_and_every_run_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        (pytest.fail if "CI" in os.environ else pytest.skip)("root is needed, for a file system to fill and a cluster")
    monkeypatch.setenv("SLURM_CONF", "set by chaos, undone after it")
    assert chaos(events=12, seed=5).total() >= 12
