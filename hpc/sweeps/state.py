"""Run folders -> one state for each run of a plan. The truth lies on disk, so every process sees the same."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from fgssl.store.run_folder import RunFolder
from hpc.sweeps.plan import SweepRun


class State(StrEnum):
    PENDING = "PENDING"
    """Could start now."""
    WAITING = "WAITING"
    """Needs a run that is not trained yet."""
    RUNNING = "RUNNING"
    """Some process holds its lease, of this sweep or not."""
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    """Needs a run that failed."""


OVER = frozenset({State.DONE, State.FAILED, State.SKIPPED})
"""Nothing more becomes of these in this sweep."""


def run_folder(run: SweepRun, out: Path) -> RunFolder:
    return RunFolder.in_output(out, run.run)


def states(
    runs: Sequence[SweepRun], out: Path, failures: Mapping[str, str] | None = None, done: frozenset[str] = frozenset()
) -> dict[str, State]:
    """Return the state of every run by its key; `runs` are in an order in which needs come first.

    `failures` holds runs that are known to have failed though their folder does not say so (killed, disk full);
    `done` holds keys that are known to be done and are not looked up again.
    """
    found: dict[str, State] = {}
    of_run: dict[str, State] = {}
    for run in runs:
        folder = run_folder(run, out)
        state = "DONE" if run.key in done else folder.state(run.config)
        if state == "DONE" or state == "RUNNING":
            found[run.key] = State(state)
        elif state == "FAILED" or run.run in (failures or {}):
            found[run.key] = State.FAILED
        else:
            found[run.key] = _by_needs([of_run[need] for need in run.needs if need in of_run])
        # For what needs it, a trained run is done, measured or not.
        trained = found[run.key] is not State.DONE and folder.trained() is not None
        of_run[run.run] = State.DONE if trained else found[run.key]
    return found


def _by_needs(needs: Sequence[State]) -> State:
    if State.FAILED in needs or State.SKIPPED in needs:
        return State.SKIPPED
    return State.PENDING if all(state is State.DONE for state in needs) else State.WAITING
