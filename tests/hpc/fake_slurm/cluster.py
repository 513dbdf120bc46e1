"""Slurm cluster in a folder, for tests: put `commands` first on PATH, submit, and advance the jobs by hand."""

import marshal
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc.cluster.schedulers.slurm import Slurm
from tests.hpc.fake_slurm.commands import NEW, SETTINGS, Cluster, log_file

Job = dict[str, Any]
_COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr", "srun")
_LAUNCH_FAILED = "launch failed requeued held"
SCRIPT = "#!/bin/sh\n#SBATCH --job-name=run\n#SBATCH --time=60\nexit 0\n"


class FakeSlurm:
    """Fake cluster, whose jobs have ids such as `12` or `12_3`; events that are impossible in Slurm fail the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commands = folder, folder / "bin"
        self.commands.mkdir(parents=True)
        (folder / "state").write_bytes(marshal.dumps(NEW))
        # Imported, the program is compiled once; without site packages, Python starts in a fraction of the time.
        program = "import sys; sys.path[0] = sys.argv[1]; import commands; sys.exit(commands.main(*sys.argv[2:]))"
        start = shlex.join([sys.executable, "-S", "-E", "-c", program, str(Path(__file__).parent)])
        for command in _COMMANDS:
            script = self.commands / command
            script.write_text(f'#!/bin/sh\nexec {start} {command} {shlex.quote(str(folder))} "$@"\n')
            script.chmod(0o755)

    def configure(self, **settings: Any) -> None:
        """Set any of `commands.SETTINGS`."""
        assert settings.keys() <= SETTINGS.keys(), settings
        with self._open() as cluster:
            cluster.settings.update(settings)

    def advance(self, seconds: float) -> None:
        """Advance the cluster's clock."""
        with self._open() as cluster:
            cluster.state["clock_offset_s"] += seconds

    def calls(self, command: str | None = None) -> list[list[str]]:
        """Return the calls of a command, or of all commands, in order, with their arguments."""
        file = self.folder / "calls"
        calls = []
        if file.exists():
            with file.open("rb") as log:
                while log.peek(1):
                    calls.append(marshal.load(log))
        return [call for call in calls if command in (None, call[0])]

    def jobs(self) -> dict[str, Job]:
        with self._open() as cluster:
            return cluster.jobs

    def job(self, job_id: str) -> Job:
        return self.jobs()[job_id]

    # ------------------------------------------------------------------------------------ what happens

    def startable(self) -> list[str]:
        """Return the ids of jobs that are not held, depend on no other job, and are within the limits."""
        with self._open() as cluster:
            waiting = [job for job in cluster.jobs.values() if job["state"] == "PENDING"]
            return [job["id"] for job in waiting if cluster.reason(job) == "None"]

    def start(self, job_id: str, *nodes: str) -> None:
        with self._open() as cluster:
            job = cluster.jobs[job_id]
            assert job["state"] == "PENDING", job["state"]
            assert cluster.reason(job) == "None", cluster.reason(job)
            cluster.start(job, nodes or ("n1",))

    def start_all(self) -> list[str]:
        """Start as many jobs as the limits allow, and return their ids."""
        started = []
        with self._open() as cluster:
            for job in cluster.jobs.values():
                if job["state"] == "PENDING" and cluster.reason(job) == "None":
                    cluster.start(job, ("n1",))
                    started.append(job["id"])
        return started

    def finish(self, job_id: str, state: str = "COMPLETED", exit_code: int | None = None, signal: int = 0) -> None:
        """End a job, also as TIMEOUT, OUT_OF_MEMORY, or FAILED (by default with exit code 1)."""
        with self._open() as cluster:
            code = int(state == "FAILED" and not signal) if exit_code is None else exit_code
            cluster.end(_running(cluster, job_id), state, code, signal)

    def requeue(self, job_id: str) -> None:
        """Requeue a job as `scontrol requeue` does."""
        with self._open() as cluster:
            cluster.put_back(_running(cluster, job_id), "REQUEUED")

    def preempt(self, job_id: str) -> None:
        with self._open() as cluster:
            _lose(cluster, _running(cluster, job_id), "PREEMPTED")

    def fail_node(self, node: str) -> None:
        with self._open() as cluster:
            cluster.state["nodes"][node] = "down"
            for job in list(cluster.running.values()):
                if node in job["nodes"]:
                    _lose(cluster, job, "NODE_FAIL")

    def fail_launch(self, job_id: str) -> None:
        """Fail to launch a job on its node, so that Slurm holds it until it is released."""
        with self._open() as cluster:
            job = cluster.jobs[job_id]
            cluster.start(job, ("n1",))
            cluster.put_back(job, "REQUEUED", held=_LAUNCH_FAILED)

    def forget(self, job_id: str) -> None:
        """Remove a job from the controller, as happens some minutes after its end."""
        with self._open() as cluster:
            cluster.jobs[job_id]["forgotten"] = True

    # ---------------------------------------------------------------------------------- real processes

    def submitted_with(self, job_id: str) -> dict[str, str]:
        """Return the environment in which sbatch was called, which is that of the job."""
        submitted = marshal.loads((self.folder / f"{job_id.split('_')[0]}.submitted").read_bytes())
        return dict(submitted["environment"])

    def launch(self, job_id: str) -> "subprocess.Popen[bytes]":
        """Start a job's batch script as a job of one task.

        Signals of scancel and scontrol reach the process; call `ended` after its end.

        """
        self.start(job_id)
        with self._open() as cluster:
            job = cluster.jobs[job_id]
            number = job["array"] or job_id
            submitted = marshal.loads((self.folder / f"{number}.submitted").read_bytes())
            environment = submitted["environment"] | dict(_variables(job))
            folder = Path(submitted["folder"])
            log = Path(folder, log_file(job["options"].get("output", "slurm-%j.out"), environment))
            with log.open("ab" if job["options"].get("open-mode") == "append" else "wb") as output:
                process = subprocess.Popen(
                    ["bash", str(self.folder / f"{number}.sh")],
                    env=environment | {"SLURM_SUBMIT_DIR": submitted["folder"]},
                    cwd=folder if folder.is_dir() else "/tmp",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            job["pid"] = process.pid
        return process

    def ended(self, job_id: str, status: int) -> None:
        """Record the return code of a script's process, unless its job was canceled or requeued before."""
        with self._open() as cluster:
            job = cluster.jobs[job_id]
            if job["state"] == "RUNNING":
                cluster.end(job, "FAILED" if status else "COMPLETED", max(status, 0), max(-status, 0))

    def run(self, job_id: str, timeout_s: float = 60) -> int:
        """Run a job's batch script to its end and return its return code."""
        process = self.launch(job_id)
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
            process.wait()
        self.ended(job_id, status)
        return status

    def _open(self) -> Cluster:
        return Cluster(str(self.folder))


def _running(cluster: Cluster, job_id: str) -> Job:
    job = cluster.jobs[job_id]
    assert job["state"] == "RUNNING", job["state"]
    return job


def _lose(cluster: Cluster, job: Job, state: str) -> None:
    if job["requeue"]:
        cluster.put_back(job, state)
    else:
        cluster.end(job, state)


def _variables(job: Job) -> Iterator[tuple[str, str]]:
    node, options = job["nodes"][0], job["options"]
    yield from {
        "SLURM_JOB_ID": str(job["number"]),
        "SLURM_JOBID": str(job["number"]),
        "SLURM_JOB_NAME": job["name"],
        "SLURM_JOB_NODELIST": node,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "1",
        "SLURM_CPUS_PER_TASK": options.get("cpus-per-task", "1"),
        "SLURM_JOB_PARTITION": options.get("partition", "main"),
        "SLURMD_NODENAME": node,
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }.items()
    if job["array"] is not None:
        yield "SLURM_ARRAY_JOB_ID", job["array"]
        yield "SLURM_ARRAY_TASK_ID", str(job["task"])
    if job["restarts"]:
        yield "SLURM_RESTART_COUNT", str(job["restarts"])


# ----------------------------------------------------------------------------------------- what tests do and see


def sbatch(*options: str, script: str = SCRIPT) -> str:
    """The id of the job."""
    command = ["sbatch", "--parsable", *options, *([] if "--wrap" in options else ["/dev/stdin"])]
    return subprocess.run(command, input=script, text=True, capture_output=True, check=True).stdout.strip()


def requeue(job_id: str) -> None:
    """Requeue a job by scontrol, as a batch script does."""
    subprocess.run(["scontrol", "requeue", job_id], text=True, capture_output=True, check=True)


def states(*job_ids: str) -> dict[str, str]:
    return {job_id: fact.state for job_id, fact in Slurm().facts(job_ids).items()}
