"""`fgssl aggregate`."""

from pathlib import Path

import click

from fgssl.commands.arguments import PATH, print_next_in_python
from fgssl.progress import shown
from fgssl.report.aggregate import aggregate


@click.command()
@click.argument("out", metavar="DIR", type=PATH)
def command(out: Path) -> None:
    """Write the tables of a sweep from its finished runs.

    DIR is the output folder of a sweep. The command writes rows.csv, table.csv, table.md and table.tex into it, and
    prints the table, also if it may not write there.
    """
    aggregate(out, shown, show=lambda text: print(text, end="", flush=True))
    print_next_in_python("table = fgssl.read_table", out)
