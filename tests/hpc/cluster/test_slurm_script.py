"""Batch scripts that are written for requests."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from hpc.cluster.schedulers.scheduler import JobRequest, JobScript, Requeue
from hpc.cluster.schedulers.slurm import Slurm
from tests.hpc.cluster.requesting import problems_of, profile_in, profile_of, requested


def script_of(job: JobRequest, tasks: int = 1) -> list[str]:
    script = JobScript(job, "module", (), Path("/log"), Path("/code"), Requeue.WHEN_INTERRUPTED, tasks=tasks)
    return Slurm().script(script).splitlines()


def test_the_script_of_a_run_on_two_nodes():
    job = requested(
        profile_of("narval"), nodes=2, processes_per_node=4, qos="high", options={"constraint": "a", "hold": True}
    )
    job = dataclasses.replace(job, exclude=("n1", "n7"), after=("12_3", "14"), array_parallelism=5)
    script = script_of(job, tasks=20)
    for line in (
        *("--job-name=job", "--time=240", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=12", "--mem=498G"),
        *("--gpus-per-node=a100:4", "--account=def-someuser", "--qos=high", "--requeue", "--signal=USR2@180"),
        *("--open-mode=append", "--exclude=n1,n7", "--dependency=afterok:12_3:14", "--array=0-19%5"),
        *("--constraint=a", "--hold"),
    ):
        assert f"#SBATCH {line}" in script
    assert not [line for line in script if re.search("wckey|--error|--partition", line)]
    assert "module load StdEnv/2023" in _after_trap(script)
    [srun] = [line for line in script if line.startswith("srun")]
    assert "--cpus-per-task=12 --kill-on-bad-exit=1 --wait=0 --cpu-bind=cores" in srun


def _after_trap(script: list[str]) -> list[str]:
    """Return the lines from the one on after which a failing line ends the job."""
    return list(itertools.dropwhile(lambda line: re.match("trap .* ERR$", line) is None, script))


def test_a_job_that_runs_alone_may_lack_its_modules():
    job = requested(profile_of("narval"), on_gpus=False)
    job_script = JobScript(job, "module", (), Path("/log"), Path("/code"), Requeue.WHEN_INTERRUPTED, alone=True)
    script = Slurm().script(job_script).splitlines()
    assert "module load python/3.12" in script
    assert _after_trap(script) == []


@pytest.mark.parametrize("tasks", [1, 3])
def test_patterns_of_sbatch_in_the_output_folder_are_escaped(tasks):
    """But not the one that stands for the task, which is in the file's name only."""
    job = requested(profile_of("generic", account=False), on_gpus=False)
    folder = Path("/o%u %%j {task}")
    script = JobScript(
        job,
        "module",
        (),
        folder / "t-{task}.log",
        Path("/code"),
        Requeue.ON_REQUEST,
        requeue_file=folder / "t-{task}",
        tasks=tasks,
    )
    lines = Slurm().script(script).splitlines()
    log = f"/o%%u %%%%j {{task}}/t-{'%a' if tasks > 1 else 0}.log"
    assert f"#SBATCH --output='{log}'" in lines
    [srun] = [line for line in lines if line.startswith("srun")]
    assert f"'--output={log}'" in srun
    assert "rm -f '/o%u %%j {task}/t-'\"${SLURM_ARRAY_TASK_ID:-0}\"" in lines


def test_runs_that_share_a_job_do_not_fall_with_one_another():
    job = requested(profile_of("karolina"), runs_per_job=4)
    assert any("--kill-on-bad-exit=0" in line for line in script_of(job))


def test_gpus_by_gres():
    profile = profile_of("generic", "cluster.gpu.option=gres", "cluster.gpu.type=v100")
    script = script_of(requested(profile, processes_per_node=2))
    assert "#SBATCH --gres=gpu:v100:2" in script
    assert not [line for line in script if "gpus-per-node" in line]
    assert "is set from other keys" in problems_of(profile, options={"gres": "lscratch:10"})["jobs.tau.options"]
    assert "#SBATCH --gres=lscratch:10" in script_of(requested(profile_of("generic"), options={"gres": "lscratch:10"}))


def test_what_is_not_asked_for_is_not_in_thescript_of():
    script = "\n".join(script_of(requested(profile_of("generic", account=False), on_gpus=False)))
    for option in ("account", "partition", "mem", "gpus", "gres", "qos", "exclude", "dependency", "cpu-bind", "array"):
        assert f"--{option}" not in script


def test_where_requeueing_is_forbidden(tmp_path):
    job = requested(profile_in(tmp_path, requeue="forbidden", cpu_node={}), on_gpus=False)
    assert not job.requeue
    script = script_of(job)
    assert "#SBATCH --no-requeue" in script
    assert "#SBATCH --requeue" not in script
