"""Signals that interrupt a run: USR2, TERM and INT set a flag, and at the next step all processes save and leave."""

import signal
import threading
from types import FrameType
from typing import Self

from fgssl.errors import EXIT_INTERRUPTED

_NOTED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Context in which signals are recorded instead of obeyed; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = 0
        """Number of the recorded signal; 0 if there is none."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NOTED:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            stop_leaving()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def ask(self) -> None:
        """Record TERM, as if the signal had come."""
        self.received = self.received or signal.SIGTERM

    def leave(self, number: int) -> None:
        """Raise `Interrupted` unless `number` is 0; it is the signal on which the processes agreed."""
        if number:
            raise Interrupted(number)


def leave_when_told(alone: bool) -> None:
    """Make USR2 and TERM raise `Interrupted` in this process from now on, except within an `Interruption`.

    If the process is not `alone`, TERM raises a plain `SystemExit`, which does not requeue the run: launchers send TERM
    to the other processes when one has failed.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if _leaves:
            raise Interrupted(number) if alone or number == signal.SIGUSR2 else SystemExit(128 + number)

    _leaves.add(True)
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, leave)


def stop_leaving() -> None:
    """Ignore the signals of `leave_when_told` from now on, so that a failed process can report its error first."""
    _leaves.clear()


_leaves: set[bool] = set()


class Interrupted(SystemExit):
    """Exit of a run that a signal interrupted; if it was training, it has saved a checkpoint."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.number = number
