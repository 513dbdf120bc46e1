"""Slurm, by its commands.

The controller (squeue) reports pending and running jobs and, for some minutes (MinJobAge), completed ones. The
accounting database (sacct), if a site has one, keeps completed jobs. But it lags behind, reports a requeued job as
ended, and reports array tasks that were canceled before they started as PENDING. So the controller takes precedence,
and for other jobs the database is trusted only if it reports them as ended.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.cluster.schedulers.scheduler import (
    JobFact,
    JobScript,
    JobState,
    SchedulerUnavailableError,
    Submitter,
)
from hpc.cluster.schedulers.slurm.commands import ask, configuration, error_of, run, sbatch
from hpc.cluster.schedulers.slurm.environment import place, user_name
from hpc.cluster.schedulers.slurm.facts import DATABASE, QUEUE, facts_in, seconds
from hpc.cluster.schedulers.slurm.rejections import explained, refused

if TYPE_CHECKING:
    from hpc.cluster.doctor.diagnosis import Diagnosis

_IDS_AT_ONCE = 5000
"""Largest number of job ids in one argument, which Linux limits to 128 KiB."""
_SEARCHED = "now-30days"
"""Start of the period in which the database is searched for a job by name."""
_OVER_ALREADY = r"Invalid job id specified|already completing or completed"
_NO_DATABASE = r"accounting storage is disabled|not running a supported accounting_storage plugin"


class Slurm:
    """Slurm by its commands on this machine; one call reports on any number of jobs."""

    reserved_options = frozenset(
        {
            *("account", "array", "cpus_per_task", "dependency", "error", "exclude", "gpus", "gpus_per_node"),
            *("gpus_per_task", "job_name", "mem", "no_requeue", "nodes", "ntasks", "ntasks_per_node", "open_mode"),
            *("output", "partition", "qos", "requeue", "signal", "time", "wckey"),
        }
    )
    submit_command = "sbatch"
    cancel_command = "scancel"
    launcher = "srun"
    launcher_option = "--ntasks"
    launcher_advice = (
        "Begin the line with srun, as slurm/train_several_nodes.sbatch does; for one process, with "
        "`srun --nodes=1 --ntasks=1`"
    )
    scratch: tuple[str, ...] = ("$SLURM_TMPDIR",)
    place = staticmethod(place)
    _submitter: Submitter | None = None

    def script(self, job: JobScript) -> str:
        """Return the sbatch script of a job."""
        from hpc.cluster.schedulers.slurm.script import script  # imports submitit, which other methods do not need

        return script(job)

    def submit(self, file: Path) -> str:
        """Submit by sbatch; the last line of its output is the job id, with `;CLUSTER` in a federation."""
        answer = sbatch("--parsable", str(file))
        if answer.returncode != 0:
            raise explained(refused(answer.stderr), file)
        job = re.fullmatch(
            r"(\d+)(;\S+)?", answer.stdout.strip().rpartition("\n")[2]
        )  # a site's sbatch may print more before it
        if job is None:
            raise SchedulerUnavailableError(f"sbatch printed no job id: {answer.stdout.strip()!r}")
        return job[1]

    def why_not(self, file: Path) -> str:
        """Return the error of `sbatch --test-only`, or "" if there is none."""
        answer = sbatch("--test-only", str(file))
        return "" if answer.returncode == 0 else answer.stderr.strip()

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
        """Return facts of squeue, and of sacct for ended jobs that squeue no longer lists."""
        if not job_ids:
            return {}
        queue = {fact.job_id: fact for fact in self._queue()}
        found = {job_id: queue[job_id] for job_id in job_ids if job_id in queue}
        forgotten = [job_id for job_id in job_ids if job_id not in queue]
        try:
            history = self.history(forgotten)
        except SchedulerUnavailableError:
            why = "the accounting database does not answer"
            return found | {job_id: JobFact(job_id, "", JobState.UNKNOWN, why) for job_id in forgotten}
        return found | {job_id: starts[-1] for job_id, starts in history.items() if starts[-1].over}

    def history(self, job_ids: Collection[str]) -> dict[str, list[JobFact]]:
        """Return {job id: its starts in order} from the database, which answers even if the controller does not.

        Returns an empty dict if there is no database.
        """
        starts: dict[str, list[JobFact]] = {job_id: [] for job_id in job_ids}
        asked = sorted({job_id.partition("_")[0] for job_id in job_ids})  # pending tasks of an array share one line
        for first in range(0, len(asked), _IDS_AT_ONCE):
            for fact in self._database(f"--jobs={','.join(asked[first : first + _IDS_AT_ONCE])}"):
                if fact.job_id in starts:
                    starts[fact.job_id].append(fact)
        for facts in starts.values():
            facts.sort(key=lambda fact: fact.started or float("inf"))  # a pending job has no start
        return {
            job_id: [replace(fact, restarts=number) for number, fact in enumerate(facts)]
            for job_id, facts in starts.items()
            if facts
        }

    def up_since(self) -> float:
        """Return the controller's BOOT_TIME in seconds since the epoch, or 0.0 if it is unknown."""
        return seconds(configuration().get("BOOT_TIME", "")) or 0.0

    def submitter(self) -> Submitter:
        """Return this process's user, ClusterName and the first controller of `scontrol show config`."""
        if self._submitter is None:
            found = configuration()
            cluster = found.get("ClusterName", "")
            controller = found.get("SlurmctldHost[0]", "").partition("(")[0]  # HOST(ADDRESS)
            if not (cluster and controller):
                raise SchedulerUnavailableError("scontrol show config: names no cluster or no controller")
            self._submitter = Submitter(user_name(), os.getuid(), cluster, controller)
        return self._submitter

    def find(self, name: str) -> list[str]:
        """Return the ids of jobs with that name in the queue, or else in the database."""

        def ids(facts: Iterable[JobFact]) -> list[str]:
            # A rejected submission may be listed as FAILED without a node.
            taken = (fact for fact in facts if fact.name == name and (fact.state is not JobState.FAILED or fact.nodes))
            return sorted({fact.job_id.partition("_")[0] for fact in taken}, key=int, reverse=True)

        return ids(self._queue()) or ids(
            self._database(f"--user={os.getuid()}", f"--name={name}", f"--starttime={_SEARCHED}")
        )

    def cancel(self, job_ids: Collection[str]) -> None:
        """Cancel jobs by scancel."""
        ids = sorted(job_ids)
        for first in range(0, len(ids), _IDS_AT_ONCE):
            answer = run("scancel", *ids[first : first + _IDS_AT_ONCE])
            errors = answer.stderr.splitlines() or [""]
            if answer.returncode != 0 and not all(re.search(_OVER_ALREADY, error) for error in errors):
                raise error_of(answer)

    def release(self, job_id: str) -> None:
        """Release a held job by `scontrol release`."""
        ask("scontrol", "release", job_id)

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal to the job's steps by scancel."""
        ask("scancel", f"--signal={name}", job_id)

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        """Set the job's dependency to `afterany` of any of the others (separated by `?`)."""
        dependency = "?".join(f"afterany:{other}" for other in others)
        ask("scontrol", "update", f"JobId={job_id}", f"Dependency={dependency}")

    def examine(self, diagnosis: "Diagnosis") -> None:
        """Compare the profile with the reports of scontrol and sacctmgr."""
        from hpc.cluster.schedulers.slurm import login_node  # imports the doctor, which other methods do not need

        login_node.examine(diagnosis)

    def _queue(self) -> Iterator[JobFact]:
        """Yield all jobs of this user, since that is cheaper than a query for thousands of ids."""
        form = f"--Format={QUEUE.replace(',', ':0|,')}:0"  # 0: no truncation
        for line in ask("squeue", "--me", "--array", "--states=all", "--noheader", form).splitlines():
            yield from facts_in(line, "squeue")

    def _database(self, *which: str) -> list[JobFact]:
        """Return every start of the selected jobs, or none if there is no database."""
        form = f"--format={DATABASE}"
        answer = run("sacct", "--duplicates", "--allocations", "--noheader", "--parsable2", form, *which)
        if re.search(_NO_DATABASE, answer.stderr):
            return []
        if answer.returncode != 0:
            raise SchedulerUnavailableError(f"the accounting database does not answer: {answer.stderr.strip()}")
        of_one: list[JobFact] = []
        of_many: list[JobFact] = []  # pending tasks share a line, which may still list a started one
        for line in answer.stdout.splitlines():
            (of_many if line.partition("|")[0].endswith("]") else of_one).extend(facts_in(line, "sacct"))
        begun = {fact.job_id for fact in of_one}
        return of_one + [fact for fact in of_many if fact.job_id not in begun]
