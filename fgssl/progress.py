"""Progress of long steps: a bar on a terminal; elsewhere, such as in a job's log, a plain line now and then.

Rooms that compute are handed a `Track` and draw nothing themselves; `silent` is their default.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.progress import Progress

Advance: TypeAlias = Callable[[int], None]
"""A function that counts so many more units as done."""
Track: TypeAlias = Callable[[str, int, str], AbstractContextManager[Advance]]
"""A function that returns the context of one step, of its title, total and unit, e.g. ("kNN", 7390, "images")."""

PLAIN_LINE_EVERY_S = 10.0
"""Time between two plain lines; a step that takes less prints none."""

_bars: list["Progress"] = []
"""Display on the terminal, at most one; a step within another step adds a line to it."""


@contextlib.contextmanager
def silent(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show nothing of a step."""
    yield lambda units: None


@contextlib.contextmanager
def shown(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show a step on stderr while it is at work; nothing stays of it on a terminal."""
    with (_on_terminal if sys.stderr.isatty() else _in_lines)(title, total, unit) as advance:
        yield advance


@contextlib.contextmanager
def _on_terminal(title: str, total: int, unit: str) -> Iterator[Advance]:
    with contextlib.ExitStack() as stack:
        if not _bars:
            _bars.append(stack.enter_context(_new_bars()))
            stack.callback(_bars.clear)
        (bars,) = _bars
        task = bars.add_task(title, total=total, unit=unit)
        stack.callback(bars.remove_task, task)
        yield lambda units: bars.advance(task, units)


def _new_bars() -> "Progress":
    from rich import progress as columns  # takes a tenth of a second, which no command off a terminal need spend
    from rich.console import Console

    return columns.Progress(
        columns.TextColumn("{task.description}"),
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        columns.TextColumn("{task.fields[unit]}"),
        columns.TimeElapsedColumn(),
        columns.TextColumn("ETA"),
        columns.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )


@contextlib.contextmanager
def _in_lines(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Print a line every ten seconds; a step that takes less prints none."""
    began = printed = time.monotonic()
    done = 0

    def advance(units: int) -> None:
        nonlocal done, printed
        done += units
        now = time.monotonic()
        if now - printed >= PLAIN_LINE_EVERY_S:
            printed = now
            rate = done / (now - began)
            eta = f", ETA {(total - done) / rate:.0f} s" if done else ""
            print(f"{title}: {done}/{total} {unit}, {rate:.3g} {unit}/s{eta}", file=sys.stderr, flush=True)

    yield advance
    if printed > began:
        print(f"{title}: {done}/{total} {unit} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
