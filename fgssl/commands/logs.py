"""`fgssl logs`."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from fgssl.commands.arguments import OUT, RUNS, print_next, print_sweep_again
from fgssl.store.plan import read_plan
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.cluster_sweep import chosen
from hpc.cluster.job_store import JobStore, Order
from hpc.cluster.status import LIVE, ClusterState
from hpc.cluster.sync import observe_sweep
from hpc.local.logs import job_logs, outputs
from hpc.sweeps.output_folder import was_submitted
from hpc.sweeps.overview import named_runs
from hpc.sweeps.plan import recorded_runs
from hpc.sweeps.state import State, states


@click.command()
@OUT
@RUNS
@click.option(
    "--lines",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Lines to print from the end of each log.",
)
def command(out: Path, runs: tuple[str, ...], lines: int) -> None:
    """Print why runs of a sweep failed, and the ends of their logs.

    OUT is the output folder of a sweep. The process that failed first comes first.

    RUN is a run's label as `fgssl status` prints it, or some whole words of it, such as an arm or 'seed 1'.
    Without RUN, all runs are printed that ended without being done.
    """
    if was_submitted(out):
        _of_cluster(out, runs, lines)
    else:
        _of_this_machine(out, runs, lines)


# -------------------------------------------------------------------------------------- on a cluster


def _of_cluster(out: Path, runs: Sequence[str], lines: int) -> None:
    seen, store = observe_sweep(out), JobStore(out)
    for run in chosen(cluster_sweep.read(out), runs):
        if run.run not in seen.runs:  # submitted after the observation
            continue
        state = seen.runs[run.run].state
        if not runs and state in {*LIVE, ClusterState.DONE, ClusterState.WAITING}:
            continue
        _print_failure(run.label, state, RunFolder.in_output(out, run.run))
        for whose, log in _logs(run.run, store, seen.orders):
            print(f"---- {whose}, the end of {log}")
            with log.open(errors="replace", encoding="utf-8") as file:
                print("".join(deque(file, lines)).rstrip())
    print_next("fgssl", "retry", out, *runs, purpose="submit them again, once the cause is removed")


def _logs(run: str, store: JobStore, orders: Iterable[Order]) -> Iterator[tuple[str, Path]]:
    """Yield a title and the log of each job that was ordered for a run and has begun."""
    for order in orders:
        for number, element in enumerate(order.elements):
            log = store.log(order.token, number)
            if run in element.runs and log.exists():
                submission = element.submissions[element.runs.index(run)]
                job = order.job_id_of(number) or "without a number"
                shared = f", shared by {len(element.runs)} runs" if order.packed else ""
                yield f"submission {submission}: job {job} of order {order.token}{shared}", log


# ----------------------------------------------------------------------------------- on this machine


def _of_this_machine(out: Path, runs: Sequence[str], lines: int) -> None:
    plan = read_plan(out)
    every = recorded_runs(plan)
    found = states(every, out)
    wanted = [run for run in named_runs(every, runs, plan.sweep) if runs or found[run.key] is State.FAILED]
    output = outputs({run.run for run in every}, job_logs(out) if wanted else [])
    for run in wanted:
        _print_failure(run.label, found[run.key], RunFolder.in_output(out, run.run))
        for log, printed in output[run.run].items():
            print(f"---- the end of its part of {log}")
            print("\n".join(printed[-lines:]).rstrip())
    if any(found[run.key] is State.FAILED for run in wanted):
        print_sweep_again(plan.preset, out, purpose="try them again, once the cause is removed")
    elif not wanted:
        print("no run has failed: name a run to print its log", file=sys.stderr)
        print_next("fgssl", "status", out, "--done", purpose="list the runs")


# ---------------------------------------------------------------------------------------------- both


def _print_failure(label: str, state: str, folder: RunFolder) -> None:
    print(f"==== {label} ({state}): {folder.path}")
    if failure := folder.failure():
        print(failure.rstrip())
