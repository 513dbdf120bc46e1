"""Reports of a running training: metrics.jsonl, progress.json, and a bar on a terminal or plain lines elsewhere."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Self

from rich import progress as bars
from rich.console import Console

from fgssl.errors import UserError
from fgssl.store.files import write_atomically
from fgssl.store.lease import Lease
from fgssl.store.records import METRICS, PROGRESS, Progress

_PLAIN_LINE_EVERY_S = 10.0
_PROGRESS_EVERY_S = 1.0


class Listener:
    """Receiver of a training's progress that ignores it, for processes that do not write."""

    last: dict[str, float] = {}  # noqa: RUF012
    """Newest metrics by name."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics after `step` steps."""

    def advance(self, step: int, loss: float) -> None:
        """Show that `step` steps are done, the last one with this loss."""


class Reporter(Listener):
    """Receiver of a training's progress that writes and shows it, under the run's lease.

    Earlier processes have done `start_step` steps. Metrics that they logged after this step are truncated. `trackers`
    receives the others first, and then the new ones.
    """

    def __init__(
        self,
        lease: Lease,
        title: str,
        start_step: int,
        total_steps: int,
        images_per_step: int,
        trackers: Listener = Listener(),  # noqa: B008  # it holds nothing
    ) -> None:
        self.lease, self.title = lease, title
        self.start_step, self.total_steps, self.images_per_step = start_step, total_steps, images_per_step
        self._file = lease.path / METRICS
        self._trackers = trackers
        self._seen = ""
        for step, metrics in _keep_lines_until(self._file, start_step):
            self.last, self._seen = metrics, _seen(metrics) or self._seen
            trackers.log(step, metrics)
        self._console = Console(file=sys.stderr)
        self._bar: bars.Progress | None = None
        if self._console.is_terminal:
            self._bar = bars.Progress(
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.MofNCompleteColumn(),
                bars.TextColumn("loss {task.fields[loss]:.4f}{task.fields[seen]} · {task.fields[rate]:.0f} images/s"),
                bars.TimeElapsedColumn(),
                bars.TextColumn("ETA"),
                bars.TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(
                title, total=total_steps, completed=start_step, loss=float("nan"), rate=0.0, seen=""
            )
        self._began = self._said = self._progressed = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append the metrics to metrics.jsonl, those that are not finite as null, which is JSON; NaN is not.

        Raises:
            UserError: The file cannot be written.
        """
        self.last, self._seen = metrics, _seen(metrics) or self._seen
        line = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        try:
            with self.lease.publishing(), self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **line}) + "\n")
        except OSError as error:
            raise UserError(f"{self._file}: cannot be written: {error.strerror}") from error
        self._trackers.log(step, metrics)

    def advance(self, step: int, loss: float) -> None:
        """Update the bar, or print a line every 10 s, and write progress.json every second."""
        now = time.monotonic()
        rate = (step - self.start_step) * self.images_per_step / max(now - self._began, 1e-9)
        if self._bar:
            self._bar.update(self._task, completed=step, loss=loss, rate=rate, seen=self._seen)
        elif now - self._said > _PLAIN_LINE_EVERY_S or step == self.total_steps:
            self._said = now
            eta_s = (self.total_steps - step) * self.images_per_step / rate
            line = (
                f"{self.title}: step {step}/{self.total_steps}, loss {loss:.4f}{self._seen}, {rate:.0f} images/s, "
                f"ETA {eta_s:.0f} s"
            )
            print(line, file=sys.stderr, flush=True)
        if now - self._progressed > _PROGRESS_EVERY_S or step == self.total_steps:
            self._progressed = now
            record = Progress(
                step=step, total_steps=self.total_steps, loss=loss, images_per_s=rate, updated=time.time()
            )
            self.lease.write_record(PROGRESS, record, durable=False)


def _seen(metrics: dict[str, float]) -> str:
    """Return the monitored numbers for the progress line, with the text between them; empty if there are none."""
    shown = {"kNN": "monitor_knn", "rank": "monitor_effective_rank", "std": "monitor_feature_std"}
    return "".join(f", {name} {metrics[key]:.3g}" for name, key in shown.items() if key in metrics)


def _keep_lines_until(file: Path, step: int) -> list[tuple[int, dict[str, float]]]:
    """Truncate metrics logged after `step`, since those steps are repeated, and return the steps and metrics kept."""
    if not file.exists():
        return []
    kept, lines = [], []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # a killed process left part of a line
            break
        if (logged := record.pop("step")) <= step:
            lines.append(line + "\n")
            kept.append((logged, {name: math.nan if value is None else value for name, value in record.items()}))
    write_atomically(file, "".join(lines))
    return kept
