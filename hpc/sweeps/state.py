"""State of each run of a plan.

It is read from the run folder, so processes agree, except for failures that one process saw but could not record there.
"""

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
    """Unfinished run whose lease is held by a process of this sweep or of another one."""
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    """Run that needs one whose training failed or which was itself skipped."""


OVER = frozenset({State.DONE, State.FAILED, State.SKIPPED})
"""States in which a local sweep leaves a run until the command is started again."""


def run_folder(run: SweepRun, out: Path) -> RunFolder:
    """Return the folder of a run in the output folder `out`."""
    return RunFolder.in_output(out, run.run)


def states(
    runs: Sequence[SweepRun], out: Path, failures: Mapping[str, str] | None = None, done: frozenset[str] = frozenset()
) -> dict[str, State]:
    """Return a mapping from `SweepRun.key` to state. `runs` must be sorted so that each run follows those it needs.

    `failures` maps names of run folders to reasons. These runs count as failed, unless they are done or running, even
    if their folder shows no failure (killed, disk full). `done` holds keys of runs already known to be done, which are
    not looked up again.
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
        # Dependents need only the training of this run, so once trained it counts as done for them, even if it is not
        # measured yet or its evaluation failed.
        trained = found[run.key] is not State.DONE and folder.trained() is not None
        of_run[run.run] = State.DONE if trained else found[run.key]
    return found


def _by_needs(needs: Sequence[State]) -> State:
    if State.FAILED in needs or State.SKIPPED in needs:
        return State.SKIPPED
    return State.PENDING if all(state is State.DONE for state in needs) else State.WAITING
