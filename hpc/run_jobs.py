"""Jobs that made each run of a sweep, as their records in its output folder name them."""

from pathlib import Path

from fgssl.report.provenance import RunJobs
from fgssl.store.plan import PlanRecord
from hpc.local.logs import job_logs, outputs
from hpc.sweeps.output_folder import was_submitted


def run_jobs(plan: PlanRecord, out: Path) -> dict[str, RunJobs]:
    """Return the jobs of each run that has any, by the name of its folder."""
    return _on_cluster(out) if was_submitted(out) else _on_this_machine(plan, out)


def _on_cluster(out: Path) -> dict[str, RunJobs]:
    from hpc.cluster.job_store import JobStore  # imported here so that local runs do not load the cluster's modules
    from hpc.cluster.submissions import submissions

    store, found = JobStore(out), dict[str, RunJobs]()
    for run, jobs in submissions(store.orders(skip_damaged=True), store.launches(), None, 0.0, None).items():
        ids = []
        for job in jobs:
            number = job.order.job_id_of(job.element) or f"of order {job.order.token}"
            restarts = job.last.restart if job.last is not None else 0
            ids.append(f"{number} (requeued {restarts} {'time' if restarts == 1 else 'times'})" if restarts else number)
        logs = [store.log(job.order.token, job.element) for job in jobs]
        newest = next((str(log.relative_to(out.absolute())) for log in reversed(logs) if log.exists()), "")
        found[run] = RunJobs(tuple(ids), newest)
    return found


def _on_this_machine(plan: PlanRecord, out: Path) -> dict[str, RunJobs]:
    found = {}
    for run, printed in outputs(plan.labels, job_logs(out)).items():
        if logs := [log.relative_to(out) for log in printed]:
            ids = tuple(str(log.parent.relative_to("jobs")) for log in logs)
            found[run] = RunJobs(ids, str(logs[-1]))
    return found
