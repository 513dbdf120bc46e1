"""The program `fgssl`, also started by `python -m fgssl`."""

import errno
import importlib.util
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fgssl.errors import UserError, exit_code
from fgssl.registries import Registry

COMMANDS = Registry(
    f"{__file__}: COMMANDS",
    {
        "pack": "fgssl.commands.pack:command",
        "train": "fgssl.commands.train:command",
        "evaluate": "fgssl.commands.evaluate:command",
        "sweep": "fgssl.commands.sweep:command",
        "aggregate": "fgssl.commands.aggregate:command",
        "report": "fgssl.commands.report:command",
        "status": "fgssl.commands.status:command",
        "sync": "fgssl.commands.sync:command",
        "logs": "fgssl.commands.logs:command",
        "cancel": "fgssl.commands.cancel:command",
        "retry": "fgssl.commands.retry:command",
        "doctor": "fgssl.commands.doctor:command",
    },
)
"""Dotted paths of the commands by name; each is imported when it is called."""

_COMPLETION = """To complete commands, options, presets and clusters with TAB, add to ~/.bashrc:
eval "$(_FGSSL_COMPLETE=bash_source fgssl)". For zsh or fish, write zsh_source or fish_source,
in the startup file of that shell."""


_ACCESS = "ask its owner for the right, or give another folder"
_SPACE = "make room, or give another folder"
_NO_ANSWER = "the file system does not answer: try again, or on another node"
_OF_USERS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _ACCESS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _SPACE),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN), _NO_ANSWER),
    errno.ELOOP: "a link that leads to itself: correct it, or give another path",
    errno.ENAMETOOLONG: "a name has at most 255 bytes: give a shorter one",
    errno.ENOTDIR: "a part of this path is a file: give another path",
}
"""Errors of files and folders that users can correct, with what to do."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Program(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            command: click.Command = COMMANDS.load(name)
            return command
        if not (context.resilient_parsing or name.startswith("-")):
            from fgssl.settings.validation import unknown

            context.fail(unknown(name, list(COMMANDS), what="command"))
        return None


@click.group(cls=_Program, epilog=_COMPLETION, context_settings=_SETTINGS)
@click.version_option(package_name="fgssl")
def program() -> None:
    """Pre-train fine-grained vision encoders, ablate them in sweeps, and get the finished tables.

    `fgssl COMMAND --help` describes one command.
    """


def invoke(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; its exceptions pass through, among them `UserError`."""
    # click's own `program.main` would swallow an EOFError or a BrokenPipeError of a training.
    try:
        with program.make_context("fgssl", list(arguments)) as context:
            return int(program.invoke(context) or 0)
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except click.ClickException as error:  # a wrong command, option or argument
        text = io.StringIO()
        error.show(text)
        print(re.sub(r"^Error: ", "error: ", text.getvalue(), flags=re.M), end="", file=sys.stderr)
        return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    A `UserError`, or an `OSError` that a user can correct, is printed to stderr and gives 2.
    """
    if instruction := os.environ.get("_FGSSL_COMPLETE"):  # noqa: TID251  the shell sets it to get completions
        from click.shell_completion import shell_complete

        return shell_complete(program, {}, "fgssl", "_FGSSL_COMPLETE", instruction)
    given = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _explained(given))


def _explained(arguments: Sequence[str]) -> int:
    """Run one command; raise a `UserError` if the error, or the folder in which it was given, is the user's."""
    _check_folder()
    try:
        return invoke(arguments)
    except OSError as error:
        if error.errno not in _OF_USERS:
            raise
        words = (error.filename, error.strerror, _OF_USERS[error.errno])
        raise UserError(": ".join(str(word) for word in words if word)) from error


def _check_folder() -> None:
    """Raise a `UserError` if the working directory was deleted, or has a file that is imported in place of ours."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working directory was deleted: change to another one") from None
    spec, ours = importlib.util.find_spec("hpc"), Path(__file__).parents[1] / "hpc" / "__init__.py"
    if spec is None or spec.origin is None or not ours.samefile(spec.origin):
        found = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
        raise UserError(
            f"{found}: is imported in place of fgssl's own package hpc: rename it, or start the program `fgssl`, not "
            "`python -m fgssl`"
        )


if __name__ == "__main__":
    sys.exit(main())
