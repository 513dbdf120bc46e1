"""Jobs of each run, from the records of a cluster's jobs or the logs of this machine's."""

from pathlib import Path

from hpc.cluster.job_store import Element, JobStore, Launch, Order, new_order
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.run_jobs import run_jobs
from hpc.sweeps.output_folder import CLUSTER_SWEEP
from tests.hpc.conftest import SmallSweep


def test_on_this_machine(small: SmallSweep) -> None:
    base, stage = small.run("base"), small.run("pretrain")
    for number, runs in enumerate([[stage, base], [base]], start=1):
        log = small.out / "jobs" / f"2026010{number}" / "job-001" / "output.log"
        log.parent.mkdir(parents=True)
        log.write_text("".join(f"---- it, seed 0: {run}\nstep 1\n" for run in runs))
    found = run_jobs(small.plan.record(), small.out)
    assert set(found) == {stage, base}
    assert found[base].ids == ("20260101/job-001", "20260102/job-001")
    assert found[base].log == "jobs/20260102/job-001/output.log"


def _submitted(store: JobStore, job_id: str | None, *elements: Element, later_than: float) -> Order:
    request = JobRequest("small", walltime_min=60)
    order = store.intend(new_order("small", request, elements, later_than=later_than))
    return order if job_id is None else store.note_id(order, job_id)


def test_on_a_cluster(small: SmallSweep, monkeypatch) -> None:
    store = JobStore(small.out)
    store.make()
    (small.out / CLUSTER_SWEEP).write_text("{}")
    base, other = small.run("base"), small.run("base", 1)
    first = _submitted(store, "41", Element((base,), (1,)), Element((other,), (1,)), later_than=0)
    second = _submitted(store, "57", Element((base,), (2,)), later_than=first.created)
    third = _submitted(store, None, Element((base,), (3,)), later_than=second.created)
    store.abandon(_submitted(store, None, Element((base,), (4,)), later_than=third.created))
    store.write_launch(Launch(second.token, 0, 0, 2, started=1.0, time_up=9.0, nodes="n1", first_step=0))
    for order in (first, second):
        store.log(order.token, 0).write_text("")
    monkeypatch.chdir(small.out.parent)
    found = run_jobs(small.plan.record(), Path(small.out.name))
    assert found[base].ids == ("41_0", "57 (requeued 2 times)", f"of order {third.token}")
    assert found[base].log == f"cluster/logs/{second.token}-0.log"
    assert (found[other].ids, found[other].log) == (("41_1",), "")
    assert set(found) == {base, other}
