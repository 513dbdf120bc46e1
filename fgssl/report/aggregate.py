"""Report of a sweep's finished runs, in files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fgssl.progress import Track, silent
from fgssl.store.files import write_atomically
from fgssl.store.plan import read_plan

if TYPE_CHECKING:
    import pandas as pd


def aggregate(out: Path, track: Track = silent, show: Callable[[str], None] | None = None) -> "pd.DataFrame":
    """Write rows.csv, table.csv, table.md and table.tex of the sweep in `out`, and return the table of table.csv.

    `show` receives the text of table.md before anything is written, since `out` may belong to somebody else. Raise a
    `UserError` if `out` holds no plan or cannot be written to.
    """
    from fgssl.report.latex import latex
    from fgssl.report.layout import lay_out  # imports pandas, which a wrong setting must not wait for
    from fgssl.report.markdown import markdown
    from fgssl.report.rows import collect_rows, write_rows
    from fgssl.report.tables import tabulate, write_table

    plan = read_plan(out)
    rows = collect_rows(plan, out, track)
    table = tabulate(rows, plan)
    layout = lay_out(table, rows, plan)
    text = markdown(layout)
    if show is not None:
        show(text)
    write_rows(rows, out / "rows.csv")
    write_table(table, out / "table.csv")
    write_atomically(out / "table.md", text)
    write_atomically(out / "table.tex", latex(layout))
    return table
