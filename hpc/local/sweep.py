"""A planned sweep on this machine: its runs and its table."""

import contextlib
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fgssl.errors import UserError
from fgssl.progress import shown
from fgssl.report.aggregate import aggregate
from fgssl.store.files import record_json, write_atomically
from fgssl.store.plan import PLAN
from hpc.local.machine import cores, gpus, unused_gpus
from hpc.sweeps.output_folder import check_kept_plan, was_submitted
from hpc.sweeps.overview import listed, number_of_runs
from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.plan_inputs import check_inputs, draw_inputs, warn_of_inputs
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.start_weights import start_weight_problems
from hpc.sweeps.state import State
from hpc.sweeps.submission import starting, submission_folder


def default_jobs(runs: Sequence[SweepRun]) -> int:
    """Return how many runs fit at a time: one per GPU, or else one per `resources.threads` cores."""
    on_gpus = 0 if all(run.config.resources.device == "cpu" for run in runs) else len(gpus())
    return on_gpus or max(1, cores() // max(run.config.resources.threads for run in runs))


def run_here(plan: SweepPlan, before: Mapping[str, State], out: Path, jobs: int, dry_run: bool) -> int:
    """Make the runs that are missing and write the table; `before` is the state of each run now.

    Return 0 if all runs are done and 1 if some failed. Raise a `UserError` with the reasons if the sweep cannot start
    now. A dry run does no more than that.
    """
    check_kept_plan(plan, out)
    if was_submitted(out):
        raise UserError(
            f"{out}: this sweep was submitted to a cluster, and its jobs may still run: give --cluster NAME as before, "
            "or another --out to run here"
        )
    check_inputs(plan.runs, out, gpus(), plan.grid.settings.settings)
    if misfits := start_weight_problems(plan.runs, out):
        raise UserError("\n".join(misfits))
    printed = warn_of_inputs(plan, out)
    if dry_run:
        return 0
    failures: dict[str, str] = {}
    warnings: list[str] = []
    skipped = 0
    missing = any(state is not State.DONE for state in before.values())
    write_plan = functools.partial(write_atomically, out / PLAN, record_json(plan.record()))
    with contextlib.ExitStack() as living:
        with starting(out):
            check_kept_plan(plan, out)  # again, since another sweep may have started meanwhile
            write_plan()
            submission = living.enter_context(submission_folder(out)) if missing else None
        if submission is not None:
            final, failures, warnings = _run(plan, out, jobs, submission)
            skipped = sum(state is State.SKIPPED for state in final.values())
            write_plan()  # a sweep with other seeds or cells may have replaced it meanwhile
        aggregate(out, shown)
    print((out / "table.md").read_text(encoding="utf-8"))
    for warning in warnings:
        if warning not in printed:
            print(f"WARNING: {warning}", file=sys.stderr)
    _print_failures(failures, skipped)
    return 1 if failures else 0


def _run(
    plan: SweepPlan, out: Path, jobs: int, submission: Path
) -> tuple[Mapping[str, State], dict[str, str], list[str]]:
    """Make the runs; return their final states, the failures by label, and the warnings that the runs printed."""
    from hpc.local.display import Display  # imports rich, which a dry run or a finished sweep does not need
    from hpc.local.executor import LocalMachine
    from hpc.local.pool import LocalSweep

    for warning in unused_gpus(jobs, [run.config.resources.device for run in plan.runs]):
        print(f"WARNING: {warning}", file=sys.stderr)
    draw_inputs(plan.runs, out)
    code = freeze(packages(), out / "code")
    with Display(plan.runs, out) as display:
        running = LocalSweep(plan.runs, out, LocalMachine(), display, jobs=jobs, devices=gpus(), code=code)
        final = running.run(submission)
    return final, running.failures(final), running.warnings()


def _print_failures(failures: Mapping[str, str], skipped: int) -> None:
    """Print each failure once, with the labels of all runs that share it."""
    alike: dict[str, list[str]] = {}
    for label, failure in failures.items():
        alike.setdefault(failure.rstrip(), []).append(label)
    for failure, labels in alike.items():
        print(f"\nFAILED {listed(labels)}\n{failure}", file=sys.stderr)
    if failures:
        left_out = f", {skipped} that need them were not started" if skipped else ""
        print(
            f"\n{number_of_runs(len(failures))} failed{left_out}; run the same command to try them again",
            file=sys.stderr,
        )
