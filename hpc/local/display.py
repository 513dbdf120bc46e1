"""Display of a running sweep: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpc.sweeps.overview import counted, duration
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import OVER, State, run_folder

_PLAIN_SUMMARY_EVERY_S = 30.0
_COLORS = {State.DONE: "green", State.RUNNING: "cyan", State.FAILED: "red", State.SKIPPED: "yellow"}
_MOST_INTERESTING = (State.RUNNING, State.FAILED, State.SKIPPED, State.PENDING, State.WAITING, State.DONE)


class Display:
    """Display of the states of `runs`, whose run folders lie in `out`/runs."""

    def __init__(self, runs: Sequence[SweepRun], out: Path, console: Console | None = None) -> None:
        self._runs, self._out = runs, out
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._shown: dict[str, State] = {}
        self._summarized = time.monotonic()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one line that stays, on a terminal above the table."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, states: Mapping[str, State]) -> None:
        """Show the present states. Plain lines show changes and, every 30 s, a summary."""
        if self._live:
            self._live.update(self._table(states), refresh=True)
            return
        first = not self._shown
        for run in self._runs:
            state = states[run.key]
            quiet = (first and state is not State.RUNNING) or state in (State.PENDING, State.WAITING)
            if state is not self._shown.get(run.key) and not quiet:
                over = sum(state in OVER for state in states.values())
                self.say(f"[{self._clock()}] {state:7} {run.label} ({over} of {len(states)} finished)")
            self._shown[run.key] = state
        if time.monotonic() - self._summarized > _PLAIN_SUMMARY_EVERY_S:
            self._summarized = time.monotonic()
            running = [run for run in self._runs if states[run.key] is State.RUNNING]
            at_work = [f"{run.label}: {', '.join(filter(None, self._progress(run)))}" for run in running]
            self.say(f"[{self._clock()}] {'; '.join([counted(states.values()), *at_work])}")

    def _table(self, states: Mapping[str, State]) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("run", "state", "step", "loss", "images/s", "ETA"):
            table.add_column(column, justify="left" if column in ("run", "state") else "right")
        room = max(5, self._console.height - 4)
        by_interest = sorted(self._runs, key=lambda run: _MOST_INTERESTING.index(states[run.key]))
        kept = {run.key for run in by_interest[:room]}
        for run in self._runs:
            if run.key in kept:
                state = states[run.key]
                columns = self._progress(run) if state is State.RUNNING else ("", "", "", "")
                table.add_row(run.label, Text(state, style=_COLORS.get(state, "")), *columns)
        left_out = f", {len(self._runs) - len(kept)} rows not shown" if len(kept) < len(self._runs) else ""
        return Group(table, Text(f"{counted(states.values())}, {self._clock()} so far{left_out}", style="bold"))

    def _progress(self, run: SweepRun) -> tuple[str, str, str, str]:
        progress = run_folder(run, self._out).progress()
        if progress is None:
            return ("starting", "", "", "")
        step, total, rate = progress.step, progress.total_steps, progress.images_per_s
        if step >= total:
            return ("evaluating" if run.config.evaluation else "finishing", "", "", "")
        left_s = (total - step) * run.config.training.global_batch_size / max(rate, 1e-9)
        eta = duration(left_s) if rate > 0 else "?"
        if self._live:
            return (f"{step}/{total}", f"{progress.loss:.4f}", f"{rate:.0f}", eta)
        return (f"step {step}/{total}", f"loss {progress.loss:.4f}", f"{rate:.0f} images/s", f"ETA {eta}")

    def _clock(self) -> str:
        return duration(time.monotonic() - self._began)
