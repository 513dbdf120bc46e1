"""`fgssl aggregate`."""

from pathlib import Path

import click

from fgssl.commands.arguments import PATH, print_next, print_next_in_python
from fgssl.errors import UserError
from fgssl.progress import shown
from fgssl.report.aggregate import aggregate
from fgssl.settings.validation import unknown
from fgssl.store.plan import read_plan


@click.command()
@click.argument("out", metavar="DIR", type=PATH)
@click.option("--why", metavar="CELL", help="Print the origin of a cell's numbers instead, and write nothing.")
def command(out: Path, why: str | None) -> None:
    """Write the tables of a sweep from its finished runs.

    DIR is the output folder of a sweep. The command writes rows.csv, table.csv, table.md and table.tex into it, and
    prints the table, also if it may not write there.

    CELL is the name of a row of the table. Its origin is its runs with their states, jobs, hours and logs, the settings
    that differ from the baseline, and the versions of code and data.
    """
    if why is not None:
        _explain(out, why)
        return
    aggregate(out, shown, show=lambda text: print(text, end="", flush=True))
    print_next_in_python("table = fgssl.read_table", out)


def _explain(out: Path, cell: str) -> None:
    """Print the provenance of a cell; raise a `UserError` if the sweep has no such cell."""
    from fgssl.report.provenance import describe, provenances  # imports numpy, which tables of any sweep load anyway
    from fgssl.report.rows import collect_rows
    from hpc.run_jobs import run_jobs

    plan = read_plan(out)
    names = [planned.cell for planned in plan.cells]
    if cell not in names:
        raise UserError(f"--why: {unknown(cell, names, what='cell')}")
    origin = provenances(plan, collect_rows(plan, out, shown), out, run_jobs(plan, out))[cell]
    print(describe(origin, plan.baseline), flush=True)
    if any(one.run.state == "failed" for one in origin.runs):
        print_next("fgssl", "logs", out, cell, purpose="show why runs failed")
