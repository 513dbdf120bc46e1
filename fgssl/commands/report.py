"""`fgssl report`."""

from pathlib import Path

import click

from fgssl.commands.arguments import PATH
from fgssl.progress import shown


@click.command()
@click.argument("out", metavar="DIR", type=PATH)
@click.argument("other", metavar="[DIR2]", type=PATH, required=False)
@click.option(
    "--max-megabytes",
    type=click.FloatRange(min=1),
    default=25.0,
    show_default=True,
    metavar="MB",
    help="Largest size of the page. Thumbnails become smaller to fit, then images are left out.",
)
def command(out: Path, other: Path | None, max_megabytes: float) -> None:
    """Write a page with the tables, figures and images of a sweep.

    DIR is the output folder of a sweep, finished or not. The command writes the tables as `fgssl aggregate` does,
    report/index.html, report/figures as PNG, PDF and SVG, and tables of test images as CSV. The page needs no network
    and no other file. With DIR2, the folder of another sweep, it shows both side by side.

    Figures and maps need `pip install 'fgssl[report]'`.
    """
    from fgssl.report.report import report  # imports pandas, which a wrong option must not wait for
    from hpc.run_jobs import run_jobs

    print(report(out, run_jobs, other, max_megabytes, shown))
