"""Slurm, by its commands.

The controller (squeue) knows what waits and runs and, for some minutes (MinJobAge), what is over. The database (sacct),
where a site has one, keeps what is over for good; but it lags behind, shows a job that went back to the queue as ended,
and shows tasks of arrays as PENDING that were canceled before they began. So the controller has the first word; of
what it has forgotten, the database is believed that it is over and how, but not that it is alive.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.cluster.schedulers.scheduler import JobFact, JobScript, JobState, SchedulerUnavailableError
from hpc.cluster.schedulers.slurm.commands import ask, configuration, error_of, run, sbatch
from hpc.cluster.schedulers.slurm.environment import place
from hpc.cluster.schedulers.slurm.facts import DATABASE, QUEUE, facts_in, seconds
from hpc.cluster.schedulers.slurm.rejections import explained, refused

if TYPE_CHECKING:
    from hpc.cluster.doctor.diagnosis import Diagnosis

_IDS_AT_ONCE = 5000
"""One argument may have 128 KiB."""
_SEARCHED = "now-30days"
_OVER_ALREADY = r"Invalid job id specified|already completing or completed"
_NO_DATABASE = r"accounting storage is disabled|not running a supported accounting_storage plugin"


class Slurm:
    """Slurm by its commands on this machine, with one call for any number of jobs."""

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

    def script(self, job: JobScript) -> str:
        from hpc.cluster.schedulers.slurm.script import script  # submitit: not needed to look at jobs

        return script(job)

    def submit(self, file: Path) -> str:
        answer = sbatch("--parsable", str(file))
        if answer.returncode != 0:
            raise explained(refused(answer.stderr), file)
        job = re.fullmatch(r"(\d+)(;\S+)?", answer.stdout.strip().rpartition("\n")[2])  # a site's own words may precede
        if job is None:
            raise SchedulerUnavailableError(f"sbatch did not say which job it made: {answer.stdout.strip()!r}")
        return job[1]

    def why_not(self, file: Path) -> str:
        answer = sbatch("--test-only", str(file))
        return "" if answer.returncode == 0 else answer.stderr.strip()

    def facts(self, job_ids: Collection[str]) -> dict[str, JobFact]:
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
        """Return every start of each job from the database, the first one first, also while the controller is away.

        Empty where there is no database.
        """
        starts: dict[str, list[JobFact]] = {job_id: [] for job_id in job_ids}
        asked = sorted({job_id.partition("_")[0] for job_id in job_ids})  # tasks that never began are listed as one
        for first in range(0, len(asked), _IDS_AT_ONCE):
            for fact in self._database(f"--jobs={','.join(asked[first : first + _IDS_AT_ONCE])}"):
                if fact.job_id in starts:
                    starts[fact.job_id].append(fact)
        for facts in starts.values():
            facts.sort(key=lambda fact: fact.started or float("inf"))  # one that waits has none
        return {
            job_id: [replace(fact, restarts=number) for number, fact in enumerate(facts)]
            for job_id, facts in starts.items()
            if facts
        }

    def up_since(self) -> float:
        return seconds(configuration().get("BOOT_TIME", "")) or 0.0

    def find(self, name: str) -> list[str]:
        def ids(facts: Iterable[JobFact]) -> list[str]:
            # What sbatch refused may be listed as FAILED without a node.
            taken = (fact for fact in facts if fact.name == name and (fact.state is not JobState.FAILED or fact.nodes))
            return sorted({fact.job_id.partition("_")[0] for fact in taken}, key=int, reverse=True)

        return ids(self._queue()) or ids(
            self._database(f"--user={os.getuid()}", f"--name={name}", f"--starttime={_SEARCHED}")
        )

    def cancel(self, job_ids: Collection[str]) -> None:
        ids = sorted(job_ids)
        for first in range(0, len(ids), _IDS_AT_ONCE):
            answer = run("scancel", *ids[first : first + _IDS_AT_ONCE])
            errors = answer.stderr.splitlines() or [""]
            if answer.returncode != 0 and not all(re.search(_OVER_ALREADY, error) for error in errors):
                raise error_of(answer)

    def release(self, job_id: str) -> None:
        ask("scontrol", "release", job_id)

    def signal(self, job_id: str, name: str) -> None:
        ask("scancel", f"--signal={name}", job_id)

    def wait_for_any(self, job_id: str, others: Collection[str]) -> None:
        dependency = "?".join(f"afterany:{other}" for other in others)
        ask("scontrol", "update", f"JobId={job_id}", f"Dependency={dependency}")

    def examine(self, diagnosis: "Diagnosis") -> None:
        from hpc.cluster.schedulers.slurm import login_node  # the doctor's modules: no other command needs them

        login_node.examine(diagnosis)

    def _queue(self) -> Iterator[JobFact]:
        """Yield all jobs of this user: one call for them is cheaper than one with thousands of ids."""
        form = f"--Format={QUEUE.replace(',', ':0|,')}:0"  # 0: whole, however long
        for line in ask("squeue", "--me", "--array", "--states=all", "--noheader", form).splitlines():
            yield from facts_in(line, "squeue")

    def _database(self, *which: str) -> list[JobFact]:
        """Return every start of these jobs; none where there is no database."""
        form = f"--format={DATABASE}"
        answer = run("sacct", "--duplicates", "--allocations", "--noheader", "--parsable2", form, *which)
        if re.search(_NO_DATABASE, answer.stderr):
            return []
        if answer.returncode != 0:
            raise SchedulerUnavailableError(f"the accounting database does not answer: {answer.stderr.strip()}")
        of_one: list[JobFact] = []
        of_many: list[JobFact] = []  # tasks that have not begun share a line; it may still name one that has
        for line in answer.stdout.splitlines():
            (of_many if line.partition("|")[0].endswith("]") else of_one).extend(facts_in(line, "sacct"))
        begun = {fact.job_id for fact in of_one}
        return of_one + [fact for fact in of_many if fact.job_id not in begun]
