"""`fgssl sync OUT`: order again what a sweep on a cluster lost, top its queue up, write its table.

Harmless at any time and from any login node; there is no daemon. `--wait` goes on until nothing more becomes of any
run.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fgssl.commands.status import show
from fgssl.errors import EXIT_INTERRUPTED, LeaseError, UserError, exit_code
from hpc.cluster import cluster_sweep
from hpc.cluster.keeper import KEEPER_PATIENCE_S
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.states import ClusterState
from hpc.cluster.sync import synchronize


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is done or on its way; 1: nothing more becomes of something that failed, or nothing could be done now."""
    parser = argparse.ArgumentParser(
        prog="fgssl sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep that was submitted")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--wait", action="store_true", help="go on until nothing more becomes of any run")
    how.add_argument(
        "--until-answered",
        action="store_true",
        help="go on until a pass has succeeded and the next one is seen to: what the small job does that makes passes",
    )
    parser.add_argument("--every", type=float, default=60.0, metavar="SECONDS", help="between two passes")
    given = parser.parse_args(arguments)
    return sync(given.out, "over" if given.wait else "answered" if given.until_answered else "once", given.every)


def sync(out: Path, until: Literal["once", "answered", "over"] = "once", every_s: float = 60.0) -> int:
    """One pass, or one every so many seconds; then the table. What fails for a while ends nothing but a single pass.

    `answered` gives up in time to go back to the queue, with EXIT_INTERRUPTED.
    """
    from fgssl.commands.aggregate import aggregate  # pandas: not for a wrong setting

    if until != "answered":
        cluster_sweep.read(out)  # is it one?
    deadline = time.monotonic() + KEEPER_PATIENCE_S
    succeeded = False
    while True:
        if until == "answered" and time.monotonic() > deadline:
            return EXIT_INTERRUPTED
        try:
            report = synchronize(out, Slurm())
        except (UserError, OSError) as error:
            passing = succeeded or until == "answered" or isinstance(error, LeaseError)
            if until == "once" or not passing:
                raise
            print(f"{error}; again in {every_s:.0f} s", flush=True)
            time.sleep(every_s)
            continue
        succeeded = True
        for line in report.lines:
            print(line, flush=True)
        for refusal in report.refused:
            print(f"refused: {refusal}", file=sys.stderr, flush=True)
        answered = not (report.unanswered or report.no_keeper)
        if until == "once" or (not report.unanswered and report.over) or (until == "answered" and answered):
            break
        time.sleep(every_s)
    aggregate(out)
    show(report.views, out, with_done=False)
    if report.ordered:
        print(f"{report.ordered} jobs ordered")
    done = all(view.state is ClusterState.DONE for view in report.views.values())
    if done:
        print((out / "table.md").read_text())
    return 1 if report.refused or report.unanswered or (report.over and not done) else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
