"""Estimate the needs of a sweep's jobs from runs that are done."""

from collections.abc import Iterable
from pathlib import Path

from hpc.cluster.actions import PlannedOrder
from hpc.cluster.site.costs import Work
from hpc.cluster.site.requests import for_runs
from hpc.sweeps.estimate import kind_of, mean_wall_s
from hpc.sweeps.plan import SweepPlan
from hpc.sweeps.state import run_folder


def work_of(orders: Iterable[PlannedOrder], plan: SweepPlan, out: Path) -> list[Work]:
    """With the time and room that runs of the same method and length took, where some are done."""
    runs = {run.run: run for run in plan.runs}
    done = [run for run in plan.runs if run_folder(run, out).done(run.config)]
    means = mean_wall_s(done, out)
    sizes = {kind_of(run): _files_and_bytes(run_folder(run, out).path) for run in done}
    work = []
    for order in orders:
        kind = kind_of(runs[order.elements[0].runs[0]])
        files, size = sizes.get(kind, (0, 0))
        work.append(
            Work(
                request=for_runs(order.request, max(len(element.runs) for element in order.elements)),
                jobs=len(order.elements),
                runs=sum(len(element.runs) for element in order.elements),
                minutes=means[kind] / 60 if kind in means else None,
                files_per_run=files,
                bytes_per_run=size,
            )
        )
    return work


def _files_and_bytes(folder: Path) -> tuple[int, int]:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)
