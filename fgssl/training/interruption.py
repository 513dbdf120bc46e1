"""TERM and INT only set a flag; the trainer saves at the next step boundary and leaves."""

import signal
import threading
from types import FrameType
from typing import Self

EXIT_CODE = 143
"""Of a run that was told to stop, saved, and left: 128 + SIGTERM."""


class Interruption:
    """A context within which signals are noted instead of obeyed; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def raise_if_received(self) -> None:
        if self.received is not None:
            raise Interrupted(self.received)


class Interrupted(SystemExit):
    """A run was asked to stop and has saved what it had."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_CODE)
        self.number = number
