"""`fgssl sweep SWEEP.yaml [key=value ...]`: all runs of a table or figure, then the table.

Run again, it does only what is missing or failed. An override whose first part is a key of the sweep (seeds, baseline,
settings, stages, arms, jobs, retries) changes that; any other goes to the settings that all runs share, e.g.
data.folder=shards/birds. With --cluster the runs become jobs of that cluster, and the command returns when they are in
its queue: see `fgssl status`. Overrides that begin with `cluster.` change its profile.
"""

import argparse
import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fgssl.commands.submit import submit
from fgssl.errors import COMMAND_LINE, Problem, SettingsError, UserError, exit_code
from fgssl.store.files import write_atomically
from hpc.cluster.site.profile import PREFIX, read_profile
from hpc.local.display import INTERRUPTED, Display, counted, runs
from hpc.local.executor import LocalMachine, cores, gpus, unused_gpus
from hpc.local.pool import LocalSweep
from hpc.sweeps.estimate import minutes_left
from hpc.sweeps.grid import expand
from hpc.sweeps.output_folder import check_kept_plan
from hpc.sweeps.plan_inputs import check_inputs, draw_inputs, input_cautions, input_problems
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.stages import POINT, Plan, Stage, plan
from hpc.sweeps.state import State, run_folder, states

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all runs are done; 1: some failed; 2 (also by `exit_code`): the sweep cannot start."""
    given = _parser().parse_intermixed_args(arguments)
    of_profile = [override for override in given.overrides if override.startswith(PREFIX)]
    of_sweep = [override for override in given.overrides if override not in of_profile]
    faults, profile = list(_option_faults(given, of_profile)), None
    if given.cluster is not None:
        profile, found = read_profile(given.cluster, of_profile)
        faults += found
    try:
        sweep = plan(expand(given.sweep, given.preset, of_sweep))
    except SettingsError as error:
        raise SettingsError([*faults, *error.problems]) from None
    if faults and profile is None:
        raise SettingsError(faults)
    grid = sweep.grid
    out = given.out or Path("outputs") / "-".join(filter(None, [grid.name, grid.preset]))
    jobs = given.jobs or _default_jobs(sweep.stages)
    record = json.dumps(sweep.record(), indent=1) + "\n"
    try:
        before = states(sweep.stages, out)
        _print_plan(sweep, before, out, jobs if profile is None else None)
        for caution in input_cautions(sweep.stages, out):
            print(f"WARNING: {caution}", file=sys.stderr)
        if profile is not None:
            return submit(sweep, profile, faults, out, given.dry_run, given.wait)
        check_kept_plan(sweep, out)
        if (out / "cluster" / "sweep.json").exists():
            raise UserError(
                f"{out}: was submitted to a cluster, whose jobs may still come: give --cluster NAME as then, or "
                "another --out to run here"
            )
        if given.dry_run:
            if problems := input_problems(sweep.stages, out, gpus()):
                print("\n".join(["it could not start now:", *problems]), flush=True)
            return 2 if problems else 0
        check_inputs(sweep.stages, out, gpus())
        status = _run(sweep, record, before, out, jobs)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read the output has left (`| head`): nobody to tell, now or at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise UserError(f"{error.filename or out}: {error.strerror}: make room or choose another --out") from error


def _option_faults(given: argparse.Namespace, of_profile: Sequence[str]) -> Iterator[Problem]:
    """Options that are wrong, or of no use beside the others."""
    if given.cluster is None:
        for override in of_profile:
            key = override.partition("=")[0]
            yield Problem(COMMAND_LINE, key, "is of a cluster's profile: give --cluster NAME too, or leave it out")
        if given.wait:
            message = (
                "follows the jobs of a cluster: give --cluster NAME too, or leave it out (runs here are waited for)"
            )
            yield Problem(COMMAND_LINE, "--wait", message)
    elif given.jobs is not None:
        message = (
            "is for runs on this machine; how many jobs run at a time on a cluster, the cluster says: leave it out"
        )
        yield Problem(COMMAND_LINE, f"--jobs {given.jobs}", message)
    elif given.wait and given.dry_run:
        yield Problem(COMMAND_LINE, "--wait", "there is nothing to wait for with --dry-run: leave one of them out")
    if given.jobs is not None and given.jobs < 1:
        message = "is not allowed: at least 1 run at a time, or leave it out"
        yield Problem(COMMAND_LINE, f"--jobs {given.jobs}", message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgssl sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP.yaml", help="e.g. sweeps/ablation_sigma.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. seeds=[0] settings.training.epochs=2")
    parser.add_argument("--preset", help="one of the file's presets; its own default where left out")
    parser.add_argument("--out", type=Path, help="output folder; outputs/<name>-<preset> where left out")
    parser.add_argument("--jobs", type=int, help="runs at a time; the number of GPUs, else cores / threads")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it lacks, write nothing")
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="PROFILE",
        help="submit to Slurm: a name, e.g. karolina, or a file like slurm/*.yaml",
    )
    parser.add_argument("--wait", action="store_true", help="with --cluster: stay until all is over")
    return parser


def _default_jobs(stages: Sequence[Stage]) -> int:
    on_gpus = 0 if all(stage.config.resources.device == "cpu" for stage in stages) else len(gpus())
    return on_gpus or max(1, cores() // max(stage.config.resources.threads for stage in stages))


def _print_plan(sweep: Plan, current: Mapping[str, State], out: Path, jobs: int | None) -> None:
    """`jobs`: runs at a time on this machine; None: on a cluster."""
    grid = sweep.grid
    print(f"{grid.name}: {grid.title}" + (f" ({grid.source})" if grid.source else ""))
    at_a_time = f", {jobs} at a time" if jobs else ""
    print(f"preset {grid.preset or 'none'}, seeds {', '.join(map(str, grid.seeds))}, into {out}{at_a_time}")
    width = max(len(name) for name in [*grid.stages, *(point.cell for point in grid.points)])

    def line(name: str, stages: Sequence[Stage]) -> str:
        return f"  {name:{width}}  {counted(_shown(current[stage.key], stage, out) for stage in stages)}"

    for kind in dict.fromkeys(stage.kind for stage in sweep.stages if stage.kind != POINT):
        print(f"{line(kind, [stage for stage in sweep.stages if stage.kind == kind])}, shared")
    for point in grid.points:
        print(line(point.cell, [sweep.runs[point.cell, seed] for seed in grid.seeds]))
    left = sum(state is not State.DONE for state in current.values())
    minutes = minutes_left(sweep, current, out, jobs or 1)
    estimate = "" if not left else f", about {minutes:.0f} minutes" if minutes is not None else ", time not known yet"
    print(f"{runs(len(sweep.stages))}, {len(sweep.stages) - left} done, {left} to do{estimate}", flush=True)


def _shown(state: State, stage: Stage, out: Path) -> str:
    begun = state is State.PENDING and any(run_folder(stage, out).checkpoints.glob("step-*"))
    return INTERRUPTED if begun else state


def _run(sweep: Plan, record: str, before: Mapping[str, State], out: Path, jobs: int) -> int:
    from fgssl.commands.aggregate import aggregate  # pandas: not for a dry run or a wrong setting

    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "plan.json", record)
    failures: dict[str, str] = {}
    skipped = 0
    if any(state is not State.DONE for state in before.values()):
        for warning in unused_gpus(jobs, [stage.config.resources.device for stage in sweep.stages]):
            print(f"WARNING: {warning}", file=sys.stderr)
        draw_inputs(sweep.stages, out)
        code = freeze(packages(), out / "code")
        with Display(sweep.stages, out) as display:
            running = LocalSweep(sweep.stages, out, LocalMachine(), display, jobs=jobs, devices=gpus(), code=code)
            final = running.run()
        failures = running.failures(final)
        skipped = sum(state is State.SKIPPED for state in final.values())
        write_atomically(out / "plan.json", record)  # a sweep with other settings may have been here meanwhile
    aggregate(out)
    print((out / "table.md").read_text())
    for label, failure in failures.items():
        print(f"\nFAILED {label}\n{failure.rstrip()}", file=sys.stderr)
    if failures:
        left_out = f", {skipped} that need them were not started" if skipped else ""
        print(f"\n{runs(len(failures))} failed{left_out}; the same command tries them again", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
