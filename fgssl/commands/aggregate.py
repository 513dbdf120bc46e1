"""`fgssl aggregate DIR`: the runs of a sweep -> rows.csv, table.csv, table.md, table.tex in DIR."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fgssl.errors import exit_code
from fgssl.report.layout import latex, lay_out, markdown
from fgssl.report.rows import collect_rows, write_rows
from fgssl.report.tables import tabulate, write_table
from fgssl.store.files import write_atomically
from fgssl.store.plan import read_plan


def aggregate(out: Path) -> pd.DataFrame:
    """Write the rows and tables of the sweep in `out`, as far as its runs are done; the table as in table.csv.

    Raises `UserError` where `out` holds no plan or cannot be written to.
    """
    plan = read_plan(out)
    rows = collect_rows(plan, out)
    table = tabulate(rows, plan)
    layout = lay_out(table, rows, plan)
    write_rows(rows, out / "rows.csv")
    write_table(table, out / "table.csv")
    write_atomically(out / "table.md", markdown(layout))
    write_atomically(out / "table.tex", latex(layout))
    return table


def main(given_arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fgssl aggregate", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="output folder of a sweep")
    folder = parser.parse_args(given_arguments).folder
    aggregate(folder)
    print((folder / "table.md").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
