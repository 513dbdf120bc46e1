"""`fgssl sweep`."""

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fgssl.commands.arguments import (
    OVERRIDES,
    PATH,
    REPORT,
    clusters,
    not_an_override,
    presets,
    print_next,
    print_next_in_python,
    write_report,
)
from fgssl.data.location import levels_named
from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from hpc.local.sweep import default_jobs, run_here
from hpc.sweeps.grid import expand
from hpc.sweeps.overview import print_plan
from hpc.sweeps.plan import SweepPlan, plan
from hpc.sweeps.state import State, states
from hpc.sweeps.sweep_file import read_sweep

if TYPE_CHECKING:
    from hpc.cluster.site.profile import Profile

_OF_PROFILE = "cluster."  # equals profile_files.PREFIX; repeated so that the cluster's modules are not imported
_POLL_S = 30.0


@click.command()
@click.argument("sweep", metavar="SWEEP.yaml", type=PATH, callback=not_an_override)
@OVERRIDES
@click.option(
    "--preset", metavar="NAME", shell_complete=presets, help="Preset to use; by default the one that the file names."
)
@click.option("--out", type=PATH, metavar="DIR", help="Output folder; by default outputs/<name>-<preset>.")
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Runs at a time; by default one per GPU, else one per resources.threads cores.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan (with --cluster, the batch scripts too) and report anything the runs lack. Nothing is "
    "written, and whether the output folder is writable is not checked.",
)
@click.option(
    "--cluster",
    metavar="PROFILE",
    type=PATH,
    shell_complete=clusters,
    help="Submit to a cluster: a name, e.g. karolina, or a file like slurm/*.yaml.",
)
@click.option("--wait", is_flag=True, help="With --cluster: wait until every run is done or has failed for good.")
@REPORT
def command(
    sweep: Path,
    overrides: tuple[str, ...],
    preset: str | None,
    out: Path | None,
    jobs: int | None,
    dry_run: bool,
    cluster: Path | None,
    wait: bool,
    with_report: bool,
) -> int:
    """Train all runs of a table or figure, and write the table.

    Once all runs are done, it writes the page of `fgssl report` too.

    If you run the command again, it starts only the runs that are missing or have failed.

    KEY=VALUE changes a setting. If its first part is a key of the sweep (name, title, source, seeds, baseline,
    settings, stages, arms, jobs, retries), it changes that. Otherwise it changes the shared settings, e.g.
    data.folder=shards/birds, and is refused if an arm or a stage sets the same key.

    With --cluster the runs become jobs. The command submits as many as the queue allows and returns, unless --wait is
    given. `fgssl status` shows their states, and `fgssl sync` submits the rest. cluster.KEY=VALUE changes the profile,
    e.g. cluster.account=OPEN-12-34.

    The exit code is 0 if all runs are done (with --cluster: if as many jobs as the queue allows were submitted), or if
    a dry run found no error. It is 1 if runs failed, a job was refused or the scheduler did not answer, 2 if there is
    an error to correct, and 130 after Ctrl-C. On a cluster, failed runs count only once no run is left in progress.
    """
    faults = [*_option_faults(overrides, jobs, dry_run, cluster, wait)]
    planned, profile = _read(sweep, preset, overrides, cluster, faults)
    folder = out or Path("outputs") / "-".join(filter(None, [planned.grid.settings.name, planned.grid.preset]))
    at_a_time = jobs or default_jobs(planned.runs)
    with _read_to_the_end():
        before = states(planned.runs, folder)
        print_plan(planned, before, folder, at_a_time if profile is None else None)
        if dry_run:
            _print_seeds(planned, before, folder)
        if profile is None:
            code = run_here(planned, before, folder, at_a_time, dry_run)
            if with_report and code == 0 and not dry_run:
                write_report(folder)
        else:
            code = _submit(planned, profile, faults, folder, dry_run, wait, with_report)
        if dry_run and code == 0:
            _print_again(click.get_current_context().params)
        elif profile is None and not dry_run:
            _print_next(folder, failed=code != 0)
        return code


def _print_seeds(planned: SweepPlan, before: Mapping[str, State], out: Path) -> None:
    from fgssl.report.rows import collect_rows  # imported here because only dry runs need them
    from fgssl.report.seeds import seeds_line

    record = planned.record()
    rows = collect_rows(record, out) if State.DONE in before.values() else []
    if line := seeds_line(record, rows):
        print(line, flush=True)


def _print_again(given: Mapping[str, Any]) -> None:
    options = [f"--{name}={given[name]}" for name in ("preset", "out", "jobs", "cluster") if given[name] is not None]
    print_next("fgssl", "sweep", given["sweep"], *given["overrides"], *options, purpose="run it")


def _print_next(out: Path, failed: bool) -> None:
    if failed:
        print_next("fgssl", "status", out, purpose="show which runs failed and why")
    else:
        print_next_in_python("table = fgssl.read_table", out)


def _read(
    file: Path, preset: str | None, overrides: Sequence[str], cluster: Path | None, faults: list[Problem]
) -> tuple[SweepPlan, "Profile | None"]:
    """Return the plan, and the profile of the cluster if one is given; add the problems of the profile to `faults`.

    Raises a `SettingsError` with all problems, those of options too, if the plan cannot be made. If only options have
    problems, it is raised here without a profile; with one, `submit` raises it, together with those of the profile's
    limits.
    """
    of_profile = [override for override in overrides if override.startswith(_OF_PROFILE)]
    of_sweep = [override for override in overrides if override not in of_profile]
    profile = None
    if cluster is not None:
        from hpc.cluster.site.profile_files import read_profile

        profile, found = read_profile(cluster, of_profile)
        faults += found
    try:
        with levels_named(lambda: read_sweep(file, preset, of_sweep).settings.settings):
            planned = plan(expand(file, preset, of_sweep))
    except SettingsError as error:
        raise SettingsError([*faults, *error.problems]) from None
    if faults and profile is None:
        raise SettingsError(faults)
    return planned, profile


def _submit(
    planned: SweepPlan,
    profile: "Profile",
    faults: Sequence[Problem],
    out: Path,
    dry_run: bool,
    wait: bool,
    with_report: bool,
) -> int:
    from fgssl.commands.sync import sync  # imported here so that local runs do not load the cluster's modules
    from hpc.cluster.submit import submit

    follow = functools.partial(sync, out, "over" if wait else "once", _POLL_S, with_report)
    return submit(planned, profile, faults, out, None if dry_run else follow)


@contextlib.contextmanager
def _read_to_the_end() -> Iterator[None]:
    """Exit with 1 if the reader of stdout has gone."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:  # e.g. `| head`: write nothing more, not at the exit either
        if error.errno == errno.ESHUTDOWN:  # of a file system, which Python raises as the same class
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(1) from None


def _option_faults(
    overrides: Sequence[str], jobs: int | None, dry_run: bool, cluster: Path | None, wait: bool
) -> Iterator[Problem]:
    """Yield a problem for each option that is wrong, or has no effect beside the others."""
    if cluster is None:
        for key in (override.partition("=")[0] for override in overrides if override.startswith(_OF_PROFILE)):
            yield Problem(
                COMMAND_LINE, key, "belongs to a cluster's profile: add --cluster NAME, or remove this setting"
            )
        if wait:
            message = "is for the jobs of a cluster: add --cluster NAME, or remove --wait (runs here are waited for)"
            yield Problem(COMMAND_LINE, "--wait", message)
        if jobs is not None and jobs < 1:
            yield Problem(COMMAND_LINE, f"--jobs {jobs}", "must be at least 1")
        return
    if jobs is not None:
        message = "is for runs on this machine; a cluster decides how many jobs run at a time: remove --jobs"
        yield Problem(COMMAND_LINE, f"--jobs {jobs}", message)
    if wait and dry_run:
        yield Problem(COMMAND_LINE, "--wait", "there is nothing to wait for with --dry-run: remove one of them")
