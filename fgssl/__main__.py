"""The program `fgssl`: one command a file of `fgssl.commands`, imported only when it is called.

`python -m fgssl COMMAND` is the same. For completion of commands, options and files in bash:
`eval "$(_FGSSL_COMPLETE=bash_source fgssl)"`, likewise for zsh and fish.
"""

import importlib
import sys
from collections.abc import Sequence

import click

from fgssl.errors import exit_code

COMMANDS = {
    "pack": "Pack images into a folder of HDF5 shards.",
    "train": "Train and evaluate one run.",
    "evaluate": "Measure a trained encoder, or a checkpoint, in another way.",
    "sweep": "Train all runs of a table or figure, here or on a cluster, and write the table.",
    "aggregate": "Write the tables of a sweep from its finished runs.",
    "status": "Show the state of every run of a sweep.",
    "sync": "Submit what is missing of a sweep on a cluster, and write the table.",
    "logs": "Print why runs failed, and the ends of their logs.",
    "cancel": "Take runs of a sweep out of the queue.",
    "retry": "Give failed or canceled runs of a sweep another try.",
    "doctor": "Check a cluster profile against the cluster itself.",
}
"""One line a command: its name, which is that of its module, and what `fgssl --help` says of it."""


class _Program(click.Group):
    """A group that imports a command's module when the command is called, so that `fgssl --help` stays quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"fgssl.commands.{name}")
        if hasattr(module, "command"):
            command: click.Command = module.command
            return command
        settings = {"ignore_unknown_options": True, "help_option_names": []}
        rest = click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)
        return click.Command(
            name, callback=lambda rest: module.main(list(rest)), params=[rest], context_settings=settings
        )

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fgssl")
def program() -> None:
    """Pre-train fine-grained vision encoders, ablate them in sweeps, and get the finished tables.

    `fgssl COMMAND --help` describes one command.
    """


def invoke(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises the `UserError` of the command."""
    try:
        return int(program.main(list(arguments), prog_name="fgssl", standalone_mode=False) or 0)
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:  # an option that click rejects
        error.show()
        return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: a `UserError` becomes its message on stderr and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: invoke(given))


if __name__ == "__main__":
    sys.exit(main())
