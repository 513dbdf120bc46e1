"""`fgssl sweep`."""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from fgssl.commands.arguments import OVERRIDES, PATH, clusters, presets
from fgssl.errors import COMMAND_LINE, Problem, SettingsError, UserError
from hpc.local.sweep import default_jobs, run_here
from hpc.sweeps.grid import expand
from hpc.sweeps.overview import print_plan
from hpc.sweeps.plan_inputs import input_cautions
from hpc.sweeps.stages import plan
from hpc.sweeps.state import states

_POLL_S = 30.0
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


@click.command()
@click.argument("sweep", metavar="SWEEP.yaml", type=PATH)
@OVERRIDES
@click.option("--preset", metavar="NAME", shell_complete=presets, help="One of the file's presets; else its default.")
@click.option("--out", type=PATH, metavar="DIR", help="Output folder; outputs/<name>-<preset> if left out.")
@click.option("--jobs", type=int, metavar="N", help="Runs at a time; else the number of GPUs, or of cores / threads.")
@click.option("--dry-run", is_flag=True, help="Print the plan and what it lacks; write nothing.")
@click.option(
    "--cluster",
    metavar="PROFILE",
    type=PATH,
    shell_complete=clusters,
    help="Submit to a cluster: a name, e.g. karolina, or a file like slurm/*.yaml.",
)
@click.option("--wait", is_flag=True, help="With --cluster: stay until every run is done or has failed for good.")
def command(
    sweep: Path,
    overrides: tuple[str, ...],
    preset: str | None,
    out: Path | None,
    jobs: int | None,
    dry_run: bool,
    cluster: Path | None,
    wait: bool,
) -> int:
    """Train all runs of a table or figure, and write the table.

    Run again, the command does only what is missing or failed.

    KEY=VALUE changes a setting. If its first part is a key of the sweep (seeds, baseline, settings, stages, arms, jobs,
    retries), it changes that; otherwise it changes the settings of all runs, e.g. data.folder=shards/birds.

    With --cluster the runs become jobs, and the command returns once they are in the queue: see `fgssl status`.
    cluster.KEY=VALUE changes the profile, e.g. cluster.account=OPEN-12-34.

    The exit code is 0 if all runs are done or submitted, 1 if some failed, and 2 if the sweep cannot start.
    """
    of_profile = [override for override in overrides if override.startswith("cluster.")]
    of_sweep = [override for override in overrides if override not in of_profile]
    faults, profile = [*_option_faults(of_profile, jobs, dry_run, cluster, wait)], None
    if cluster is not None:
        from hpc.cluster.site.profile_file import read_profile

        profile, found = read_profile(cluster, of_profile)
        faults += found
    try:
        planned = plan(expand(sweep, preset, of_sweep))
    except SettingsError as error:
        raise SettingsError([*faults, *error.problems]) from None
    if faults and profile is None:
        raise SettingsError(faults)
    folder = out or Path("outputs") / "-".join(filter(None, [planned.grid.name, planned.grid.preset]))
    at_a_time = jobs or default_jobs(planned.stages)
    with _explained(folder):
        before = states(planned.stages, folder)
        print_plan(planned, before, folder, at_a_time if profile is None else None)
        for caution in input_cautions(planned.stages, folder):
            print(f"WARNING: {caution}", file=sys.stderr)
        if profile is not None:
            from fgssl.commands.sync import sync
            from hpc.cluster.submit import submit

            follow = functools.partial(sync, folder, "over" if wait else "once", _POLL_S)
            return submit(planned, profile, faults, folder, None if dry_run else follow)
        return run_here(planned, before, folder, at_a_time, dry_run)


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Turn an output folder that cannot be written to into a `UserError`; leave quietly if nobody reads the output."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # e.g. `| head`: write nothing more, not at the exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(1) from None
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise UserError(f"{error.filename or out}: {error.strerror}: make room or choose another --out") from error


def _option_faults(
    of_profile: Sequence[str], jobs: int | None, dry_run: bool, cluster: Path | None, wait: bool
) -> Iterator[Problem]:
    """Find options that are wrong, or of no use beside the others."""
    if cluster is None:
        for override in of_profile:
            key = override.partition("=")[0]
            yield Problem(COMMAND_LINE, key, "is of a cluster's profile: give --cluster NAME too, or leave it out")
        if wait:
            message = (
                "follows the jobs of a cluster: give --cluster NAME too, or leave it out (runs here are waited for)"
            )
            yield Problem(COMMAND_LINE, "--wait", message)
    elif jobs is not None:
        message = (
            "is for runs on this machine; how many jobs run at a time on a cluster, the cluster says: leave it out"
        )
        yield Problem(COMMAND_LINE, f"--jobs {jobs}", message)
    elif wait and dry_run:
        yield Problem(COMMAND_LINE, "--wait", "there is nothing to wait for with --dry-run: leave one of them out")
    if jobs is not None and jobs < 1:
        message = "is not allowed: at least 1 run at a time, or leave it out"
        yield Problem(COMMAND_LINE, f"--jobs {jobs}", message)
