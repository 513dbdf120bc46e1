"""The fake Slurm behaves like the real one."""

import subprocess
import time
from pathlib import Path

import pytest
from submitit.slurm.slurm import SlurmExecutor

from hpc.cluster.schedulers.scheduler import Refusal
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.schedulers.slurm.commands import configuration
from hpc.cluster.schedulers.slurm.login_node import limits, shown
from hpc.cluster.schedulers.slurm.rejections import refused
from tests.hpc.fake_slurm.cluster import FakeSlurm, requeue, sbatch, states


@pytest.mark.parametrize(
    ("settings", "options", "kind"),
    [
        ({"max_array_size": 10}, ["--array=0-10"], Refusal.ARRAY),
        ({"max_submitted": 3}, ["--array=0-3"], Refusal.FULL),
        ({"max_job_count": 3}, ["--array=0-3"], Refusal.FULL),
        ({"accounts": ["open-1"]}, ["--account=open-2"], Refusal.ACCOUNT),
        ({"controller": "away"}, [], None),
    ],
)
def test_the_fake_refuses_as_slurm_does(
    fake_slurm: FakeSlurm, settings: dict[str, object], options: list[str], kind: Refusal | None
) -> None:
    fake_slurm.configure(**settings)
    answer = subprocess.run(["sbatch", *options, "--wrap", "true"], capture_output=True, text=True)
    assert answer.returncode == 1
    assert getattr(refused(answer.stderr), "kind", None) is kind
    assert fake_slurm.jobs() == {}


def test_limits_as_the_fake_has_them(fake_slurm: FakeSlurm) -> None:
    fake_slurm.configure(max_submitted=210, max_running=200)
    [partition] = shown("partition")
    found = limits(configuration(), partition)
    assert (found.submitted, found.running, found.array_index) == (210, 200, 1000)
    assert found.longest_walltime_min == 2 * 24 * 60
    fake_slurm.configure(accounting="none", max_submitted=None)
    assert limits(configuration(), partition).submitted is None


def test_the_script_wins_over_nothing(fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's shell over the script, and the command line over both, as in Slurm."""
    script = "#!/bin/sh\n#SBATCH --account=script\n#SBATCH --requeue\n#SBATCH --job-name='a name'\n"
    assert fake_slurm.job(sbatch(script=script))["options"]["account"] == "script"
    monkeypatch.setenv("SBATCH_ACCOUNT", "shell")
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")
    job = fake_slurm.job(sbatch(script=script))
    assert (job["options"]["account"], job["requeue"], job["name"]) == ("shell", False, "a name")
    assert fake_slurm.job(sbatch("--account=line", script=script))["options"]["account"] == "line"


def test_a_batch_script_is_run(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    script = """#!/bin/bash
#SBATCH --array=0-1
#SBATCH --output=%A_%a.log
echo "in the script $SLURM_ARRAY_TASK_ID ${SLURM_RESTART_COUNT:-first}"
srun --unbuffered --output=%A_%a_%t.log --kill-on-bad-exit=1 sh -c 'echo "in the step $SLURM_PROCID"; exit 3'
"""
    array = sbatch(f"--chdir={tmp_path}", script=script)
    assert fake_slurm.run(f"{array}_1") == 3
    assert (tmp_path / f"{array}_1.log").read_text() == "in the script 1 first\n"
    assert (tmp_path / f"{array}_1_0.log").read_text() == "in the step 0\n"
    assert Slurm().facts([f"{array}_1"])[f"{array}_1"].exit_code == 3
    assert states(f"{array}_0") == {f"{array}_0": "PENDING"}


def test_a_running_script_is_signaled_requeued_and_canceled(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    script = """#!/bin/bash
trap 'echo USR2 >> signals' USR2
trap 'echo TERM >> signals; exit 0' TERM
touch "ready${SLURM_RESTART_COUNT:-0}"
while true; do sleep 0.05; done
"""
    job = sbatch(f"--chdir={tmp_path}", script=script)
    for restart, stop in enumerate((requeue, lambda job: Slurm().cancel([job]))):
        process = fake_slurm.launch(job)
        deadline = time.monotonic() + 20
        while not (tmp_path / f"ready{restart}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        Slurm().signal(job, "USR2")
        time.sleep(0.2)
        stop(job)
        fake_slurm.ended(job, process.wait(20))
        assert states(job) == {job: "CANCELED" if restart else "PENDING"}
    assert (tmp_path / "signals").read_text().split() == ["USR2", "TERM"] * 2


def test_submitit_submits_to_it_and_reads_from_it(fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    executor = SlurmExecutor(tmp_path / "logs")
    executor.update_parameters(time=30, job_name="by-submitit", array_parallelism=2)
    jobs = executor.map_array(abs, [-1, -2, -3])
    assert [fact.name for fact in Slurm().facts([job.job_id for job in jobs]).values()] == ["by-submitit"] * 3
    assert fake_slurm.run(jobs[0].job_id) == 0
    assert jobs[0].result() == 1
    jobs[0].watcher.clear()
    assert jobs[1].watcher.get_state(jobs[1].job_id, "force") == "PENDING"
    fake_slurm.start(jobs[1].job_id)
    assert fake_slurm.start_all() == [jobs[2].job_id]
    jobs[1].cancel()
    assert jobs[1].watcher.get_state(jobs[1].job_id, "force").startswith("CANCELLED")
