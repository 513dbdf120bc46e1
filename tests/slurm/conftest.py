"""Real Slurm clusters for tests: `slurm`, and `slurm_without_accounting`, which has no database.

Each process of pytest that needs a cluster starts one, with its own folder and ports. So a test may kill daemons and
cancel all jobs, and processes of pytest-xdist do not wait for each other. To use a cluster that was started by hand,
and to keep it running, evaluate `eval "$(tests/slurm/cluster.sh env)"` before pytest.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster.sh")
NOT_POSSIBLE_HERE = 3
"""Exit code of `cluster.sh up` on a machine that cannot run a cluster."""
START_TIMEOUT_S = 400.0
_FIRST_PORT = 24100
_PORTS_PER_CLUSTER = 20


class Cluster:
    """Cluster of cluster.sh in `folder`. Ids of jobs and array tasks are strings, as in Slurm: "12", "12_3"."""

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.configuration = folder / "etc" / "slurm.conf"
        self.nodes = ("n1", "n2", "n3", "n4")
        self.environment = {key: value for key, value in os.environ.items() if not is_slurms(key)}
        """Environment of commands: that of the user without Slurm's variables, with this cluster's configuration."""
        self.environment |= {"CLUSTER_DIR": str(folder), "SLURM_CONF": str(self.configuration), **(options or {})}
        self._whole = True

    # ------------------------------------------------------------------------------------------- commands

    def attempt(self, *command: str, stdin: str = "", timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail; raise subprocess.TimeoutExpired if it hangs."""
        return subprocess.run(
            command,
            input=stdin,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def command(self, *command: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Return a command's output, and fail the test if the command fails."""
        finished = self.attempt(*command, stdin=stdin, timeout_s=timeout_s)
        assert finished.returncode == 0, f"{' '.join(command)}: {finished.stdout[-2000:]}{finished.stderr[-4000:]}"
        return finished.stdout

    def attempt_as(self, user: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail as another user, who may write where everyone may."""
        return self.attempt("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command)

    def on(self, host: str, *command: str) -> str:
        """Return a command's output on a node or on `head`, where process ids differ from those of the machine."""
        return self.command(str(SCRIPT), "on", host, *command)

    # -------------------------------------------------------------------------------------------- daemons

    def up(self, retry: bool = False) -> None:
        """Start all daemons that are not running.

        On a machine that cannot run a cluster, skip the test, or fail it if CI is set. With `retry`, a
        cluster that fails to start is removed and started once more.
        """
        command = [str(SCRIPT), "up"]
        finished = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=START_TIMEOUT_S
        )
        if finished.returncode == NOT_POSSIBLE_HERE:
            (pytest.fail if "CI" in os.environ else pytest.skip)(finished.stderr.strip())
        if finished.returncode != 0 and retry:
            print(f"The cluster did not start and is started again: {finished.stderr[:4000]}", file=sys.stderr)
            self.down()
            self.up()
        elif finished.returncode != 0:
            pytest.fail(finished.stderr[:12_000], pytrace=False)
        self._whole = True

    def down(self) -> None:
        subprocess.run([str(SCRIPT), "down"], env=self.environment, check=True, timeout=START_TIMEOUT_S)

    def start(self, daemon: str) -> None:
        """Start `slurmctld`, `slurmdbd` or a node's slurmd, and boot a node that crashed."""
        self.command(str(SCRIPT), "start", daemon)

    def stop(self, daemon: str) -> None:
        """Stop a daemon by SIGTERM, so that slurmctld saves its state."""
        self._whole = False
        self.command(str(SCRIPT), "stop", daemon)

    def kill(self, daemon: str) -> None:
        """Kill a daemon by SIGKILL; jobs of a node continue."""
        self._whole = False
        self.command(str(SCRIPT), "kill", daemon)

    def pause(self, daemon: str) -> None:
        """Stop a daemon by SIGSTOP, so that requests get no answer."""
        self._whole = False
        self.command(str(SCRIPT), "pause", daemon)

    def resume(self, daemon: str) -> None:
        self.command(str(SCRIPT), "resume", daemon)

    def crash(self, node: str) -> None:
        """Kill all processes of a node at once."""
        self._whole = False
        self.command(str(SCRIPT), "crash", node)

    def log(self, daemon: str) -> Path:
        return self.folder / "log" / f"{daemon}.log"

    def node_states(self) -> dict[str, str]:
        """Return {node: state}, e.g. idle, mixed, allocated or down, with `*` if the node does not respond."""
        lines = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        return {node: state for node, state in map(str.split, lines)}

    # ----------------------------------------------------------------------------------------------- jobs

    def submit(self, script: str, *options: str) -> str:
        """Submit the lines of a bash script with options of sbatch, and return the job id."""
        stdin = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        return self.command("sbatch", "--parsable", *options, stdin=stdin).strip()

    def output(self, job: str) -> str:
        """Return the output of a job or array task so far."""
        file = self.folder / f"slurm-{job}.out"
        return file.read_text() if file.exists() else ""

    def job(self, job: str) -> dict[str, str]:
        """Return the fields of `scontrol show job`, e.g. JobState, Reason, Restarts, ExitCode and NodeList."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.command("scontrol", "--oneliner", "show", "job", job)))

    def state(self, job: str) -> str:
        """Return the state of a job, e.g. PENDING, RUNNING or COMPLETED."""
        return self.job(job)["JobState"]

    def queue(self) -> dict[str, str]:
        """Return {job or array task: state} of those that have not ended."""
        lines = self.command("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return {job: state for job, state in map(str.split, lines)}

    def wait(self, job: str, *states: str, timeout_s: float = 30.0) -> None:
        """Wait until a job is in one of `states`."""
        self.until(
            lambda: self.state(job) in states,
            lambda: f"{' '.join(states)}: {self.job(job)}\n{self.output(job)}",
            timeout_s,
        )

    def until(self, true: Callable[[], bool], what: Callable[[], str], timeout_s: float = 30.0) -> None:
        """Wait until `true` returns True, or fail the test with `what` in its message."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what()}"
            time.sleep(0.2)

    def cancel(self, *jobs: str) -> None:
        self.command("scancel", *jobs)

    def clean(self) -> None:
        """Start stopped daemons, end all jobs, and wait until all nodes are idle."""
        if not self._whole:
            self.up()
        if jobs := {job.split("_")[0] for job in self.queue()}:
            self.attempt("scancel", "--quiet", *jobs)  # some may end before it
        for node, state in self.node_states().items():
            if state.startswith(("down", "drain")):
                self.command("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.until(
            lambda: not self.queue() and set(self.node_states().values()) == {"idle"},
            lambda: f"an idle cluster: {self.queue()} {self.node_states()}",
            timeout_s=90.0,
        )


def is_slurms(variable: str) -> bool:
    return variable.startswith(("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_"))


@contextlib.contextmanager
def own_cluster(accounting: bool, **options: str) -> Iterator[Cluster]:
    """Yield a cluster in a folder that no other process uses, after ending one that a killed process left there.

    `options` are variables of cluster.sh.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        for number in range(100):
            with contextlib.suppress(OSError):  # the kernel frees the name when this process ends
                lock.bind(f"\0fgssl-tests-slurm-{number}")
                break
        port = str(_FIRST_PORT + number * _PORTS_PER_CLUSTER)
        options |= {"CLUSTER_PORT": port, "CLUSTER_ACCOUNTING": "yes" if accounting else "no"}
        cluster = Cluster(Path(f"/tmp/slurm-tests-{number}"), options)
        cluster.down()
        try:
            cluster.up(retry=True)
            yield cluster
        finally:
            cluster.down()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """Return a cluster of four nodes with 4 cores, 4000 MB and two `a100` each; its partitions are in cluster.sh."""
    if "CLUSTER_DIR" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        cluster = Cluster(Path(os.environ["CLUSTER_DIR"]))
        cluster.up()
        cluster.clean()
        yield cluster
        return
    with own_cluster(accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_without_accounting() -> Iterator[Cluster]:
    """Return the same cluster without a database."""
    with own_cluster(accounting=False) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _cluster_of_the_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Select the cluster of the test for this process, and clean it up at the end."""
    names = [name for name in ("slurm_without_accounting", "slurm") if name in request.fixturenames]
    clusters: list[Cluster] = [request.getfixturevalue(name) for name in names]
    for variable in filter(is_slurms, list(os.environ)):
        monkeypatch.delenv(variable)
    for cluster in clusters:
        monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    yield
    for cluster in clusters:
        cluster.clean()
