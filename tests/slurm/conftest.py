"""A real Slurm for tests: `slurm`, and `slurm_without_accounting`, where sacct knows nothing.

A cluster is started once by each process of pytest that needs it. Processes of pytest-xdist have one each, with folder
and ports of its own: a test may kill its daemons and cancel every job on it, and none waits for another's cluster.
`eval "$(tests/slurm/cluster.sh env)"` before pytest makes tests use, and leave up, a cluster that was started by hand.
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
"""Exit code of `cluster.sh up` where it cannot run."""
START_TIMEOUT_S = 400.0
_FIRST_PORT = 24100
_PORTS_PER_CLUSTER = 20


class Cluster:
    """The cluster of cluster.sh in `folder`. Jobs and arrays are strings, as Slurm writes them: "12", "12_3"."""

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.configuration = folder / "etc" / "slurm.conf"
        self.nodes = ("n1", "n2", "n3", "n4")
        self.environment = {key: value for key, value in os.environ.items() if not is_slurms(key)}
        """For commands from outside: without the user's settings of Slurm's commands, with this cluster."""
        self.environment |= {"CLUSTER_DIR": str(folder), "SLURM_CONF": str(self.configuration), **(options or {})}
        self._whole = True

    # ------------------------------------------------------------------------------------------- commands

    def attempt(self, *command: str, stdin: str = "", timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail. Raises subprocess.TimeoutExpired where it hangs."""
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
        """What a command prints; the test fails where the command does."""
        finished = self.attempt(*command, stdin=stdin, timeout_s=timeout_s)
        assert finished.returncode == 0, f"{' '.join(command)}: {finished.stdout[-2000:]}{finished.stderr[-4000:]}"
        return finished.stdout

    def on(self, host: str, *command: str) -> str:
        """What a command prints on a node or on `head`. The process numbers there mean nothing elsewhere."""
        return self.command(str(SCRIPT), "on", host, *command)

    # -------------------------------------------------------------------------------------------- daemons

    def up(self, retry: bool = False) -> None:
        """Start what does not run. Where the machine cannot be a cluster, skip the test; fail it where CI is set.

        `retry`: after a failure, remove the cluster and start once more.
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
        """`slurmctld`, `slurmdbd` or a node's slurmd; boots a node that crashed."""
        self.command(str(SCRIPT), "start", daemon)

    def stop(self, daemon: str) -> None:
        """End a daemon in order: slurmctld saves what it knows."""
        self._whole = False
        self.command(str(SCRIPT), "stop", daemon)

    def kill(self, daemon: str) -> None:
        """End a daemon by SIGKILL; the jobs of a node live on."""
        self._whole = False
        self.command(str(SCRIPT), "kill", daemon)

    def pause(self, daemon: str) -> None:
        """Stop a daemon by SIGSTOP: whoever asks it gets no answer."""
        self._whole = False
        self.command(str(SCRIPT), "pause", daemon)

    def resume(self, daemon: str) -> None:
        self.command(str(SCRIPT), "resume", daemon)

    def crash(self, node: str) -> None:
        """End every process of a node at once."""
        self._whole = False
        self.command(str(SCRIPT), "crash", node)

    def log(self, daemon: str) -> Path:
        return self.folder / "log" / f"{daemon}.log"

    def node_states(self) -> dict[str, str]:
        """Node to state: idle, mixed, allocated, completing, down, ...; `*` follows where it does not answer."""
        lines = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        return {node: state for node, state in map(str.split, lines)}

    # ----------------------------------------------------------------------------------------------- jobs

    def submit(self, script: str, *options: str) -> str:
        """Submit the lines of a bash script; `options` are sbatch's."""
        stdin = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        return self.command("sbatch", "--parsable", *options, stdin=stdin).strip()

    def output(self, job: str) -> str:
        """What a job or array task has printed so far."""
        file = self.folder / f"slurm-{job}.out"
        return file.read_text() if file.exists() else ""

    def job(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job`: JobState, Reason, Restarts, ExitCode, NodeList, ..."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.command("scontrol", "--oneliner", "show", "job", job)))

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        return self.job(job)["JobState"]

    def queue(self) -> dict[str, str]:
        """Job or array task to state, of those that have not ended."""
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
        """Wait until `true`; otherwise the test fails and tells `what` was waited for."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what()}"
            time.sleep(0.2)

    def cancel(self, *jobs: str) -> None:
        self.command("scancel", *jobs)

    def clean(self) -> None:
        """Start what was stopped, end every job and wait until all nodes are idle."""
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
    """A cluster in a folder that no other process uses; one that a killed process left there is ended first.

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
    """A cluster of four nodes of 4 cores, 4000 MB and two `a100` each; cluster.sh tells its partitions."""
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
    """The same without a database."""
    with own_cluster(accounting=False) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _cluster_of_the_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the test's cluster the one of this process; leave it whole and empty."""
    names = [name for name in ("slurm_without_accounting", "slurm") if name in request.fixturenames]
    clusters: list[Cluster] = [request.getfixturevalue(name) for name in names]
    for variable in filter(is_slurms, list(os.environ)):
        monkeypatch.delenv(variable)
    for cluster in clusters:
        monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    yield
    for cluster in clusters:
        cluster.clean()
