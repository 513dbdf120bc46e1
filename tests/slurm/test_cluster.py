"""The real cluster has the properties on which other tests rely."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster, own_cluster

pytestmark = pytest.mark.slurm

ENDLESS = "while true; do sleep 0.1; done"
TELL_SIGNALS = f"trap 'echo USR2' USR2; trap 'echo TERM' TERM; echo ready; {ENDLESS}"
UNTIL_RESTARTED = f"""
echo "start ${{SLURM_RESTART_COUNT:-0}}"
[ -z "$SLURM_RESTART_COUNT" ] || exit 0
srun bash -c "{TELL_SIGNALS}"
"""
"""Script that prints the signals that it receives, and succeeds after a restart."""
EMPTY = "#!/bin/bash\n"
GRACE_S = 10


def wait_until_ready(slurm: Cluster, *jobs: str) -> None:
    slurm.until(lambda: all("ready" in slurm.output(job) for job in jobs), lambda: str(slurm.queue()))


def lines(slurm: Cluster, job: str) -> list[str]:
    """Return the output of the test's own scripts."""
    return [line for line in slurm.output(job).splitlines() if line in ("start 0", "start 1", "USR2", "TERM")]


def test_two_nodes(slurm: Cluster) -> None:
    tell = "echo $SLURM_PROCID $SLURM_LOCALID $(hostname) $CUDA_VISIBLE_DEVICES"
    options = ("--nodelist=n2,n3", "--ntasks-per-node=2", "--gpus-per-node=a100:2")
    printed = slurm.command("srun", *options, "bash", "-c", tell)
    assert sorted(printed.splitlines()) == ["0 0 n2 0,1", "1 1 n2 0,1", "2 0 n3 0,1", "3 1 n3 0,1"]


def test_gpus(slurm: Cluster) -> None:
    tell = ("bash", "-c", "echo $SLURM_LOCALID $CUDA_VISIBLE_DEVICES")
    printed = slurm.command("srun", "--nodes=1", "--ntasks=2", "--gpus-per-task=1", *tell)
    assert sorted(printed.splitlines()) == ["0 0", "1 1"]
    refused = slurm.attempt("srun", "--gpus-per-node=3", *tell)
    assert refused.returncode != 0
    assert "Requested node configuration is not available" in refused.stderr


def test_hosts_are_apart(slurm: Cluster) -> None:
    """As on a cluster: a job finds Slurm and other nodes without variables, and sees processes of its own node only."""
    job = slurm.submit(ENDLESS, "--nodelist=n1")
    slurm.wait(job, "RUNNING")
    look = 'unset SLURM_CONF; squeue -h -o %N | sort; getent hosts n1; grep -l "job[0-9]" /proc/[0-9]*/cmdline | wc -l'
    for node, found in (("n1", "1"), ("n2", "0")):
        printed = slurm.command("srun", f"--nodelist={node}", "bash", "-c", look).split()
        assert printed == [*sorted(["n1", node]), "127.0.0.1", "n1", found]


def test_arrays(slurm: Cluster) -> None:
    array = slurm.submit("echo $SLURM_ARRAY_TASK_ID; sleep 1", "--array=0-3%2", "--output=slurm-%A_%a.out")
    running: list[int] = []

    def ended() -> bool:
        states = list(slurm.queue().values())
        running.append(states.count("RUNNING"))
        return not states

    slurm.until(ended, lambda: str(slurm.queue()))
    assert max(running) == 2
    assert [slurm.output(f"{array}_{task}") for task in range(4)] == ["0\n", "1\n", "2\n", "3\n"]


def test_signals(slurm: Cluster) -> None:
    job = slurm.submit(f'srun bash -c "{TELL_SIGNALS}"')
    wait_until_ready(slurm, job)
    slurm.command("scancel", "--signal=USR2", job)
    slurm.until(lambda: lines(slurm, job) == ["USR2"], lambda: slurm.output(job))
    assert slurm.state(job) == "RUNNING"


def test_limits(slurm: Cluster) -> None:
    refused = {
        "--array=0-1001": "Invalid job array specification",
        "--array=0-8 --partition=limited": "Job violates accounting/QOS policy (job submit limit",
        "--account=unknown": "Invalid account",
        "--qos=unknown": "Invalid qos",
    }
    for options, message in refused.items():
        finished = slurm.attempt("sbatch", *options.split(), stdin=EMPTY)
        assert finished.returncode != 0
        assert message in finished.stderr

    array = slurm.submit(ENDLESS, "--array=0-7", "--partition=limited")
    slurm.until(lambda: list(slurm.queue().values()).count("RUNNING") == 2, lambda: str(slurm.queue()))
    pending = slurm.command("squeue", "-h", "-t", "PENDING", "-o", "%r", "-j", array)
    assert set(pending.split()) == {"QOSMaxJobsPerUserLimit"}
    assert slurm.job(slurm.submit(ENDLESS, "--account=project"))["Account"] == "project"


def test_the_database_dies_and_returns(slurm: Cluster) -> None:
    slurm.kill("slurmdbd")
    job = slurm.submit("exit 3")
    slurm.wait(job, "FAILED")
    assert "Connection refused" in slurm.attempt("sacct", "-j", job).stderr

    slurm.start("slurmdbd")
    history = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", job)  # the exit code follows much later
    slurm.until(lambda: slurm.command(*history) == "FAILED\n", lambda: slurm.command(*history))


@pytest.mark.slow
def test_the_controller_hangs_dies_and_returns(slurm: Cluster, tmp_path: Path) -> None:
    job = slurm.submit(f"until [ -e {tmp_path}/end ]; do sleep 0.1; done")
    slurm.wait(job, "RUNNING")
    slurm.pause("slurmctld")
    with pytest.raises(subprocess.TimeoutExpired):
        slurm.attempt("squeue", timeout_s=3)
    slurm.resume("slurmctld")
    assert slurm.queue() == {job: "RUNNING"}

    slurm.stop("slurmctld")  # killed, it may forget that the job runs and start it once more
    slurm.start("slurmctld")
    slurm.wait(job, "RUNNING")
    slurm.kill("slurmctld")
    assert "Unable to contact slurm controller" in slurm.attempt("squeue").stderr
    (tmp_path / "end").touch()
    slurm.start("slurmctld")
    slurm.wait(job, "COMPLETED")
    assert slurm.job(job)["Restarts"] == "0"


def test_without_accounting(slurm_without_accounting: Cluster) -> None:
    slurm = slurm_without_accounting
    job = slurm.submit("exit 3")
    slurm.wait(job, "FAILED")
    assert slurm.job(job)["ExitCode"] == "3:0"
    disabled = slurm.attempt("sacct", "-j", job)
    assert disabled.returncode != 0
    assert "Slurm accounting storage is disabled" in disabled.stderr


def test_two_clusters_side_by_side(slurm: Cluster, slurm_without_accounting: Cluster) -> None:
    job = slurm.submit(ENDLESS)
    slurm.wait(job, "RUNNING")
    assert slurm_without_accounting.queue() == {}
    assert slurm_without_accounting.command("srun", "--nodelist=n1", "hostname") == "n1\n"


@pytest.mark.slow
def test_what_ends_jobs(slurm: Cluster) -> None:
    """Preemption, a node that is lost, one that crashes, the time limit: side by side, since each takes a while."""

    def submit(script: str, partition: str, node: str, *options: str) -> str:
        return slurm.submit(script, f"--partition={partition}", f"--nodelist={node}", "--open-mode=append", *options)

    most = "--cpus-per-task=3"  # two of those do not fit on a node
    preempted = {
        partition: submit(UNTIL_RESTARTED, partition, node, most, "--signal=USR2@60")
        for partition, node in (("main", "n1"), ("no_grace", "n2"), ("cancel", "n3"))
    }
    crashed = submit(f'srun bash -c "{TELL_SIGNALS}"', "high", "n3", "--no-requeue")
    lost = submit(UNTIL_RESTARTED, "main", "n4")
    limited = submit(ENDLESS, "short", "n1")
    wait_until_ready(slurm, *preempted.values(), crashed, lost)
    slurm.wait(limited, "RUNNING")

    slurm.kill("n4")
    for node in ("n1", "n2", "n3"):
        submit("sleep 1", "high", node, most)
    slurm.until(lambda: "USR2" in lines(slurm, preempted["main"]), lambda: slurm.output(preempted["main"]))
    grace_began = time.monotonic()

    slurm.wait(preempted["cancel"], "PREEMPTED")
    slurm.crash("n3")
    slurm.start("n3")
    slurm.wait(preempted["main"], "PENDING")
    assert time.monotonic() - grace_began > GRACE_S - 1

    slurm.wait(lost, "PENDING", timeout_s=60)
    assert slurm.node_states()["n4"] == "down*"
    orphans = ("bash", "-c", "grep -l 'echo [r]eady' /proc/[0-9]*/cmdline | wc -l")
    assert slurm.on("n4", *orphans) == "1\n"
    slurm.start("n4")  # soon: at the moment of its return, 24.11 fails a job that is due: "Job credential revoked"

    for partition in ("main", "no_grace"):
        slurm.wait(preempted[partition], "COMPLETED")
        assert int(slurm.job(preempted[partition])["Restarts"]) > 0  # 24.11 may start a job with grace once more
    assert lines(slurm, preempted["main"])[:2] == ["start 0", "USR2"]  # warned, and ended later
    for partition, last in (("main", "start 1"), ("no_grace", "start 1"), ("cancel", "TERM")):
        told = lines(slurm, preempted[partition])
        assert {"USR2", "TERM"} < set(told)
        assert told[-1] == last

    slurm.wait(lost, "COMPLETED")
    assert lines(slurm, lost) == ["start 0", "start 1"]
    slurm.until(lambda: slurm.on("n4", *orphans) == "0\n", lambda: slurm.on("n4", *orphans))

    slurm.wait(crashed, "NODE_FAIL", timeout_s=180)
    assert lines(slurm, crashed) == []
    slurm.wait(limited, "TIMEOUT", timeout_s=120)


def test_a_start_that_fails_is_repeated_once_and_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    install = shutil.which("mariadb-install-db")
    fake = tmp_path / "mariadb-install-db"
    fails = '{ echo "the reason"; seq 100; exit 1; }'
    fake.write_text(f'#!/bin/bash\nmkdir {tmp_path}/tried 2>/dev/null && {fails}\nexec {install} "$@"\n')
    fake.chmod(0o755)
    with own_cluster(accounting=True) as slurm:
        assert slurm.command("sacctmgr", "--noheader", "--parsable2", "show", "cluster", "format=cluster") == "tests\n"
    assert "the reason" in capfd.readouterr().err

    fake.write_text(f"#!/bin/bash\n{fails}\n")
    with pytest.raises(pytest.fail.Exception, match=r"mariadb-install-db failed\n(.*\n)*the reason"):
        own_cluster(accounting=True).__enter__()
