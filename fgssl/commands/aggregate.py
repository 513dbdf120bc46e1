"""`fgssl aggregate`."""

from pathlib import Path

import click

from fgssl.commands.arguments import PATH
from fgssl.report.aggregate import aggregate


@click.command()
@click.argument("out", metavar="DIR", type=PATH)
def command(out: Path) -> None:
    """Write the tables of a sweep from its finished runs.

    DIR is the output folder of a sweep. The command writes rows.csv, table.csv, table.md and table.tex into it, and
    prints the table.
    """
    aggregate(out)
    print((out / "table.md").read_text(), end="")
