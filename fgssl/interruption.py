"""USR2, TERM and INT only set a flag; all processes agree at the next step boundary, save together, and leave."""

import signal
import threading
from types import FrameType
from typing import Self

from fgssl.errors import EXIT_INTERRUPTED

_NOTED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Interruption:
    """A context within which signals are noted instead of obeyed; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received = 0
        """Number of the signal; 0: none."""
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
        """Do as if TERM had come."""
        self.received = self.received or signal.SIGTERM

    def leave(self, number: int) -> None:
        """Leave if the processes agreed on a signal: `number` is not 0."""
        if number:
            raise Interrupted(number)


def leave_when_told(alone: bool) -> None:
    """Make USR2 and TERM end this process at once from now on, to be started again, except in an `Interruption`.

    Not `alone`, TERM asks for nothing: launchers send it to the other processes when one has failed.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if _leaves:
            raise Interrupted(number) if alone or number == signal.SIGUSR2 else SystemExit(128 + number)

    _leaves.add(True)
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, leave)


def stop_leaving() -> None:
    """Let no signal end this process from now on: it has failed, and reports why first."""
    _leaves.clear()


_leaves: set[bool] = set()


class Interrupted(SystemExit):
    """A run was asked to stop and has saved what it had."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.number = number
