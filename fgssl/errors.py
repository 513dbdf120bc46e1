"""Errors that a user can correct, which are printed without a traceback, and exit codes of runs."""

import contextlib
import difflib
import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_INTERRUPTED = 75
"""Exit code of a run that was interrupted and has saved a checkpoint: requeue it (EX_TEMPFAIL of sysexits.h)."""

EXIT_PEER_LOST = 69
"""Exit code of a process that ended because another process of its run did, whose error is the cause (EX_UNAVAILABLE
of sysexits.h)."""

EXIT_OUT_OF_HANDS = 74
"""Exit code of a run that could not read or write, e.g. on a full disk, or whose lease another process took over
(EX_IOERR of sysexits.h)."""

_LISTED = 8

COMMAND_LINE = "command line"
"""Source of a setting that was given on the command line."""


class UserError(Exception):
    """Fault that a user can correct: where it is, what is wrong, what is allowed, what to do."""


@dataclass(frozen=True)
class Problem:
    """One fault in a file of settings."""

    source: str
    """File of the setting, or `COMMAND_LINE`."""
    key: str
    """Dotted key; empty for the file as a whole."""
    message: str
    line: int | None = None
    """Line of the key in the file, if it is there."""

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{where}: {self.key + ': ' if self.key else ''}{self.message}"


class SettingsError(UserError):
    """Faults in the settings, all of them at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class DataError(UserError):
    """Dataset, shard or image that cannot be used as it is."""


class NoPositivesError(DataError, ValueError):
    """Batch in which no row has a positive."""


class CheckpointError(UserError):
    """Checkpoint or weights file that does not fit."""


class NonFiniteError(UserError):
    """NaN or infinity in a training or in features."""


class PeerLostError(UserError):
    """Loss of another process of the run, which ended or does not answer; its own error has the cause."""


class DamagedRecordError(UserError):
    """File of a record that holds something else: it was cut short, or written by another version."""


class LeaseError(UserError):
    """Run folder that another process owns."""


def nearest(path: Path) -> Path | None:
    """Return the path that exists beside a missing one, or beside its first missing parent, and is named most alike.

    Below that parent, the rest of the path is kept if it exists there.
    """
    folder, name, beside = _neighbors(path)
    if not (near := difflib.get_close_matches(name, beside, n=1)):
        return None
    whole = folder.joinpath(near[0], *path.relative_to(folder).parts[1:])
    return whole if whole.exists() else folder / near[0]


def alternatives(path: Path) -> str:
    """Return advice on a path that does not exist: the nearest that does, or the first names in its folder."""
    if near := nearest(path):
        return f"did you mean {near}?"
    folder, _, beside = _neighbors(path)
    listed = ", ".join([*beside[:_LISTED], *["..."] * (len(beside) > _LISTED)])
    return f"{folder.absolute()} holds {listed or 'nothing'}"


def _neighbors(path: Path) -> tuple[Path, str, list[str]]:
    """Return the first parent of `path` that exists, the name that is missing in it, and the names that it has."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that may not be listed
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return folder, path.relative_to(folder).parts[0], names


def exit_code(main: Callable[[], int]) -> int:
    """Run the main function of a command and return its exit code.

    A `UserError` is printed to stderr and gives 2; a `KeyboardInterrupt` gives 130. If the reader of stdout left early,
    such as `head`, the rest is dropped in silence, with 141 as of a shell's own commands. Characters that the locale
    does not have are printed as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _reader_left():
            raise
        return 141
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _reader_left() -> bool:
    """Return whether stdout is a pipe that nobody reads any more, and drop what is left to print if so."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
