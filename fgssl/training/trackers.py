"""Curves of a training in TensorBoard and W&B, written by the trackers of Accelerate.

They are a copy of metrics.jsonl, in the run folder too. A process that resumes a training writes them anew up to the
step of its checkpoint, so that no step is in them twice. Nothing is sent over a network.
"""

import contextlib
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgssl.training.reporter import Listener

_PROJECT = "fgssl"


class Trackers(Listener):
    """Receiver of metrics that hands them to trackers; one that fails is left out from then on, with a warning."""

    def __init__(self, trackers: Sequence[Any]) -> None:
        """`trackers` are those of `accelerate.tracking`, already started."""
        self._trackers = list(trackers)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Hand on the metrics that are finite."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._each(lambda tracker: tracker.log(finite, step=step))

    def finish(self) -> None:
        """Close all files."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, act: Callable[[Any], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                act(tracker)
            except (
                Exception
            ) as error:  # a viewer must not end a training, e.g. when a signal to all ended W&B's process
                self._trackers.remove(tracker)
                print(f"WARNING: resources.trackers: {tracker.name} stops here: {error!r}", file=sys.stderr)


@contextlib.contextmanager
def started(names: Sequence[str], folder: Path, settings: Mapping[str, object]) -> Iterator[Trackers]:
    """Start trackers in a run folder, without the curves that earlier processes left, and close them at the end.

    `settings` are those of the run, for display.
    """
    starts = {"tensorboard": _tensorboard, "wandb": _wandb}
    found = []
    for name in names:
        # On NFS an orphan's open file remains under a name that no viewer reads.
        shutil.rmtree(folder / name, ignore_errors=True)
        tracker = starts[name](folder, settings)
        tracker.start()
        found.append(tracker)
    trackers = Trackers(found)
    try:
        yield trackers
    finally:
        trackers.finish()


def _tensorboard(folder: Path, settings: Mapping[str, object]) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", folder)


def _wandb(folder: Path, settings: Mapping[str, object]) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    wandb.setup(wandb.Settings(mode="offline"))  # of the process too, which otherwise asks for its server
    quiet = wandb.Settings(console="off", silent=True)  # neither captures nor adds to the log
    return WandBTracker(
        _PROJECT, mode="offline", dir=folder, id=folder.name, name=folder.name, config=settings, settings=quiet
    )
