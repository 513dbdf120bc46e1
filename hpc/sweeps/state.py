"""State of each run of a plan, read from its run folder, so that every process sees the same."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from fgssl.store.run_folder import RunFolder
from hpc.sweeps.plan import SweepRun


class State(StrEnum):
    """State of a run in its sweep."""

    PENDING = "PENDING"
    """Run that could start now."""
    WAITING = "WAITING"
    """Run that needs another one which is not trained yet."""
    RUNNING = "RUNNING"
    """Run whose lease some process holds, of this sweep or another."""
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    """Run that needs one which failed."""


OVER = frozenset({State.DONE, State.FAILED, State.SKIPPED})
"""States that do not change any more in this sweep."""


def run_folder(run: SweepRun, out: Path) -> RunFolder:
    """Return the folder of a run in the output folder `out`."""
    return RunFolder.in_output(out, run.run)


def states(
    runs: Sequence[SweepRun], out: Path, failures: Mapping[str, str] | None = None, done: frozenset[str] = frozenset()
) -> dict[str, State]:
    """Return the state of each run by its key; in `runs`, each must come after the runs that it needs.

    `failures` names runs that failed without a trace in their folder (killed, disk full). `done` holds keys of runs
    that were done before and are not looked up again.
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
        # A run that needs it can start once it is trained, measured or not.
        trained = found[run.key] is not State.DONE and folder.trained() is not None
        of_run[run.run] = State.DONE if trained else found[run.key]
    return found


def _by_needs(needs: Sequence[State]) -> State:
    if State.FAILED in needs or State.SKIPPED in needs:
        return State.SKIPPED
    return State.PENDING if all(state is State.DONE for state in needs) else State.WAITING
