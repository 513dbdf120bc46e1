"""Errors that a user can correct: shown as they are, without a traceback."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

EXIT_INTERRUPTED = 75
"""Exit code of a run that was told to stop, saved and left: try again later, that is, requeue it (EX_TEMPFAIL of
sysexits.h)."""

EXIT_PEER_LOST = 69
"""Exit code of a process whose run ended because another process did: look at that one (EX_UNAVAILABLE)."""

EXIT_OUT_OF_HANDS = 74
"""Exit code of a run that could not write: its disk is full for now, or another attempt took it over (EX_IOERR)."""

COMMAND_LINE = "command line"
"""Source of a setting that no file gave."""


class UserError(Exception):
    """A fault that a user can correct: where it is, what is wrong, what is allowed, what to do."""


@dataclass(frozen=True)
class Problem:
    """One fault in a file of settings."""

    source: str
    """The file, or `COMMAND_LINE`."""
    key: str
    """Dotted key; empty for the file as a whole."""
    message: str
    line: int | None = None
    """Line of the key in the file."""

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{where}: {self.key + ': ' if self.key else ''}{self.message}"


class SettingsError(UserError):
    """All problems of the settings at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class DataError(UserError):
    """A dataset, shard or image that cannot be used as it is."""


class NoPositivesError(DataError, ValueError):
    """A batch in which no row has another one to be pulled to."""


class CheckpointError(UserError):
    """A checkpoint or weights file that does not fit."""


class NonFiniteError(UserError):
    """Training met a value that is not finite."""


class PeerLostError(UserError):
    """Another process of the run ended or does not answer; its own error gives the reason."""


class LeaseError(UserError):
    """Another process owns the run folder."""


def exit_code(main: Callable[[], int]) -> int:
    """Run a command's main: a `UserError` becomes its message on stderr and exit code 2."""
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
