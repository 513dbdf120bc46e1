"""Sweeps on a real Slurm with random failures: `python -m tests.slurm.chaos EVENTS SEED`.

Each round is a sweep whose runs train nothing (`fake_run`). It takes longer than the jobs' time limit, and its arrays
exceed the cluster's MaxArraySize. Rounds repeat until there were EVENTS events; passes are made from time to time, as
by a keeper. At the end of a round every run must be done, trained once, and equal to an undisturbed run.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fgssl.errors import UserError
from hpc.cluster.job_store import JobStore
from hpc.cluster.status import ClusterState
from tests.slurm.conftest import SCRIPT, Cluster, is_slurms, own_cluster
from tests.slurm.small_sweep import SWEEP, Swept, freeze_fake_code, swept_in

MAX_ARRAY_SIZE = 3
"""MaxArraySize of the cluster, which is not in the profile."""
TIME_LIMIT_MIN = 1
EVENT_EVERY_S = (1.0, 5.0)
EVENTS_OF_A_ROUND = 25
PATIENCE_S = 1500.0
DISK = "48m"
ANOTHER_USER = "daemon"
CLOCK = (
    'if [ "$(hostname)" = {node} ]; then '
    "export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME={seconds:+}; fi"
)
"""Line of a job's shell that sets the clock of one node off by minutes."""


class Chaos:
    """Events that disturb a sweep; each method returns whether its event could be caused."""

    def __init__(self, swept: Swept, chance: random.Random) -> None:
        self.swept, self.slurm, self.chance = swept, swept.slurm, chance
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.events: dict[str, Callable[[], bool]] = {
            "USR2 to a job": lambda: self._to_a_job("scancel", "--signal=USR2"),
            "TERM to a step": lambda: self._to_a_job("scancel", "--signal=TERM"),
            "scontrol requeue": lambda: self._to_a_job("scontrol", "requeue"),
            "preempted": lambda: self._preempt(grace=True),
            "preempted without grace": lambda: self._preempt(grace=False),
            "kill -9 of a process": self._kill_process,
            "kill -9 of a slurmd, whose jobs live on": lambda: self._kill_daemon(chance.choice(self.slurm.nodes), 25.0),
            "node crashes and comes back": self._crash,
            "slurmctld dies": lambda: self._kill_daemon("slurmctld", 4.0),
            "slurmdbd dies": lambda: self._kill_daemon("slurmdbd", 6.0),
            "submitter dies before it noted a number": self._forget_number,
            "submitter dies anywhere": self._kill_submitter,
            "no room in the queue": self._fill_queue,
            "disk full": self._fill_disk,
            "another user's status": lambda: self._by_another_user("status", exit_code=0),
            "another user's sync": lambda: self._by_another_user("sync", exit_code=2),
            "sacct does not answer": self._pause_database,
        }

    def mend(self, everything: bool = False) -> None:
        """Undo the events whose time is over."""
        for item in list(self._later):
            if everything or time.monotonic() >= item[0]:
                with contextlib.suppress(AssertionError):  # else again, the next time
                    item[1]()
                    self._later.remove(item)

    @property
    def mended(self) -> bool:
        return not self._later

    def _in(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _running(self) -> list[tuple[str, str]]:
        """Return (job id, run) of each running job."""
        try:
            views = self.swept.views()
        except UserError:
            return []
        return [(view.job_id or "", name) for name, view in views.items() if view.state is ClusterState.RUNNING]

    def _to_a_job(self, *command: str) -> bool:
        running = self._running()
        return bool(running) and self.slurm.attempt(*command, self.chance.choice(running)[0]).returncode == 0

    def _preempt(self, grace: bool) -> bool:
        """Preempt jobs by one that needs a whole node; GraceTime is set on the runs' partition."""
        seconds = 10 if grace else 0
        if self.slurm.attempt("scontrol", "update", "PartitionName=main", f"GraceTime={seconds}").returncode != 0:
            return False
        node = self.chance.choice(self.slurm.nodes)
        options = ("--partition=high", f"--nodelist={node}", "--cpus-per-task=4", "--time=1", "--output=/dev/null")
        return self.slurm.attempt("sbatch", *options, stdin="#!/bin/bash\nsleep 3\n").returncode == 0

    def _kill_process(self) -> bool:
        for _, run in self._running():
            with contextlib.suppress(OSError, ValueError, KeyError):
                holder = json.loads((self.swept.out / "runs" / run / "lease").read_text())
                command = (str(SCRIPT), "on", holder["host"], "kill", "-9", str(holder["pid"]))
                if self.slurm.attempt(*command).returncode == 0:
                    return True
        return False

    def _kill_daemon(self, daemon: str, seconds: float) -> bool:
        with contextlib.suppress(AssertionError):  # it is dead already
            self.slurm.kill(daemon)
            self._in(seconds, lambda: self.slurm.start(daemon))
            return True
        return False

    def _crash(self) -> bool:
        node = self.chance.choice(self.slurm.nodes)
        with contextlib.suppress(AssertionError):
            self.slurm.crash(node)
            self._in(3.0, lambda: self.slurm.start(node))
            return True
        return False

    def _forget_number(self) -> bool:
        files = list((self.swept.out / "cluster" / "orders").glob("*.id"))
        if files:
            self.chance.choice(files).unlink()
        return bool(files)

    def _kill_submitter(self) -> bool:
        command = [sys.executable, "-m", "fgssl", "sync", str(self.swept.out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as submitter:
            with contextlib.suppress(subprocess.TimeoutExpired):
                submitter.wait(self.chance.uniform(0.5, 3.0))
            submitter.kill()
        return True

    def _fill_queue(self) -> bool:
        """Limit the user to one job for a while, without affecting existing jobs."""
        command = ("sacctmgr", "--immediate", "modify", "user", "root", "set")
        if self.slurm.attempt(*command, "MaxSubmitJobs=1").returncode != 0:
            return False

        def empty() -> None:
            self.slurm.command(*command, "MaxSubmitJobs=-1")

        self._in(6.0, empty)
        return True

    def _fill_disk(self) -> bool:
        filler = self.swept.out / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
        self._in(self.chance.uniform(1.0, 4.0), lambda: filler.unlink(missing_ok=True))
        return True

    def _by_another_user(self, command: str, exit_code: int) -> bool:
        arguments = (sys.executable, "-m", "fgssl", command, str(self.swept.out))
        finished = self.slurm.attempt_as(ANOTHER_USER, *arguments)
        away = finished.returncode == 1 or "does not answer" in finished.stderr  # the controller, or the disk is full
        assert finished.returncode == exit_code or away, f"{command}: {finished.stdout}\n{finished.stderr}"
        assert "Traceback" not in finished.stderr, finished.stderr
        assert "jobs ordered" not in finished.stdout, finished.stdout
        return True

    def _pause_database(self) -> bool:
        with contextlib.suppress(AssertionError):  # it is dead
            self.slurm.pause("slurmdbd")
            self._in(10.0, lambda: self.slurm.resume("slurmdbd"))
            return True
        return False


def chaos(events: int, seed: int) -> Counter[str]:
    """Run rounds until there were `events` events and return their counts; raise `AssertionError` if a round fails."""
    chance, total = random.Random(seed), Counter[str]()
    os.umask(0)  # the folder belongs to a group, whose members may write to it
    with (
        _disk() as disk,
        own_cluster(
            accounting=True, CLUSTER_MAX_ARRAY_SIZE=str(MAX_ARRAY_SIZE), CLUSTER_SLURM_CONF="PrivateData=jobs"
        ) as slurm,
    ):
        os.environ["SLURM_CONF"] = str(slurm.configuration)
        code = freeze_fake_code(disk / "code")
        while total.total() < events:
            began = time.monotonic()
            out = disk / f"out-{total.total()}"
            total += _round(slurm, code, out, chance, min(EVENTS_OF_A_ROUND, events - total.total()))
            _say(f"{total.total()} events; all runs done once and as they should be, {time.monotonic() - began:.0f} s")
            slurm.clean()
            shutil.rmtree(out)
    return total


def _round(slurm: Cluster, code: Path, out: Path, chance: random.Random, events: int) -> Counter[str]:
    happened: Counter[str] = Counter()
    clock = CLOCK.format(node=chance.choice(slurm.nodes), seconds=chance.choice([-240, 240]))
    profile = (*_PROFILE, f"cluster.environment.setup={json.dumps([clock])}")
    swept = swept_in(out, slurm, code, SWEEP, *_SETTINGS, profile=profile)
    steps = chance.randrange(1300, 1500)  # of 0.05 s: longer than the time limit
    (swept.out / "steps").write_text(str(steps))
    causes, said = Chaos(swept, chance), ""
    deadline = time.monotonic() + PATIENCE_S
    next_event = time.monotonic() + 3.0
    while True:
        assert time.monotonic() < deadline, f"{said}\n{swept.told()}"
        causes.mend()
        try:
            report = swept.sync()
            said = str([report.progress.ordered, *report.progress.lines, *report.progress.refused])
        except (UserError, OSError) as error:  # the scheduler does not answer, the disk is full
            said = f"{type(error).__name__}: {error}"
        if happened.total() < events:
            if time.monotonic() >= next_event:
                name = chance.choice(list(causes.events))
                if causes.events[name]():
                    _say(f"{name}")
                    happened[name] += 1
                    next_event = time.monotonic() + chance.uniform(*EVENT_EVERY_S)
        else:
            causes.mend(everything=True)
            if causes.mended:
                for node, state in slurm.node_states().items():
                    if state.startswith(("down", "drain")):  # a person would
                        slurm.attempt("scontrol", "update", f"NodeName={node}", "State=RESUME")
                if swept.states() == Counter(DONE=len(swept.sweep.runs)):
                    break
        time.sleep(0.5)
    swept.check(steps)
    happened["time limit"] = sum(_at_time_limit(swept))
    return happened


_SETTINGS = (
    "seeds=[0,1,2]",
    f"jobs.default.walltime_min={TIME_LIMIT_MIN}",
    "retries={node_failures: 50, timeouts: 50}",
)
_PROFILE = ("cluster.signal_delay_s=15",)


def _at_time_limit(swept: Swept) -> Iterator[bool]:
    """Return, for each launch of a run, whether it ended close to its time limit."""
    for launch in JobStore(swept.out).launches():
        left = launch.ended if launch.signal else None
        yield left is not None and left - launch.started > 60 * TIME_LIMIT_MIN - 30


@contextlib.contextmanager
def _disk() -> Iterator[Path]:
    """Yield a small file system, which nodes that boot afterwards can use."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
        try:
            Path(folder).chmod(0o777)
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=int)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    for variable in filter(is_slurms, list(os.environ)):
        del os.environ[variable]
    total = chaos(given.events, given.seed)
    for name, number in sorted(total.items()):
        print(f"{number:4} {name}")


if __name__ == "__main__":
    main()
