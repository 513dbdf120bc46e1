"""Scheduler-independent scripts of a sweep's jobs, its keeper and the doctor's self-test."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hpc.cluster.cluster_sweep import ClusterSweep
from hpc.cluster.job_store import JobStore, Order
from hpc.cluster.schedulers.scheduler import JobRequest, JobScript, Requeue
from hpc.cluster.site.requests import for_runs


def order_script(
    sweep: ClusterSweep, store: JobStore, order: Order, request: JobRequest, excluded: Sequence[str] = ()
) -> JobScript:
    """Return the script of an order.

    `request` describes a job with its full number of runs; `excluded` are nodes on which jobs were lost.
    """
    request = dataclasses.replace(
        request,
        job_name=order.job_name,
        after=order.after,
        array_parallelism=sweep.limits[request.partition or ""].running or len(order.elements),
        exclude=tuple(dict.fromkeys([*request.exclude, *excluded])),
        folder=sweep.folder,
    )
    return JobScript(
        request=for_runs(request, max(len(element.runs) for element in order.elements)),
        module="hpc.cluster.job",
        arguments=(str(store.order_file(order.token)),),
        log=store.log(order.token, "{task}"),
        code=sweep.code_in(store.folder.parent),
        requeue=Requeue.ON_REQUEST,
        requeue_file=store.requeue_file(order.token, "{task}"),
        start_file=store.start_file(order.token, "{task}"),
        tasks=len(order.elements),
    )


def keeper_script(sweep: ClusterSweep, store: JobStore, request: JobRequest) -> JobScript:
    """Return the script of the keeper, which makes the next pass over the sweep and submits jobs itself."""
    return JobScript(
        request=dataclasses.replace(request, begin_in_s=sweep.keeper_rest_s),
        module="fgssl",
        arguments=("sync", str(store.folder.parent), "--until-answered"),
        log=store.log("keeper", 0),
        code=sweep.code_in(store.folder.parent),
        requeue=Requeue.WHEN_INTERRUPTED,
        alone=True,
    )


def self_test_script(request: JobRequest, folder: Path, code: Path, arguments: Sequence[str]) -> JobScript:
    """Return the script of the doctor's job, which runs `node_checks` in each process and is requeued once."""
    return JobScript(
        request=request,
        module="hpc.cluster.doctor.node_checks",
        arguments=(str(folder), *arguments),
        log=folder / "log.txt",
        code=code,
        requeue=Requeue.ONCE,
        requeue_file=folder / "requeue.txt",
    )
