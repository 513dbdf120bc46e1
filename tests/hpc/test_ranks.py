"""Environments of all launchers: really launched if possible, otherwise as recorded from a real launch."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.errors import UserError
from fgssl.processes import ALONE, Processes
from fgssl.settings.layers import read_yaml
from hpc import ranks

ROOT = Path(__file__).parents[2]
ACCELERATE = ROOT / "hpc" / "accelerate"
BIN = Path(sys.executable).parent
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29400",
    "GROUP_WORLD_SIZE": "2",
    "TORCHELASTIC_RUN_ID": "none",
}
# Slurm 22.05, in the batch script of a job of two nodes with two tasks each, and in a task of its step.
BATCH = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_GTIDS": "0",
    "SLURMD_NODENAME": "localhost",
}
TASK = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_GTIDS": "0,1"}
LAST_TASK = TASK | {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_GTIDS": "2,3"}

Environment = Callable[..., None]


@pytest.fixture
def environment(monkeypatch) -> Environment:
    """Return `environment(variables)`, which sets these variables, and no other ones, until the test ends."""

    def be(variables: dict[str, str]) -> None:
        monkeypatch.setattr(os, "environ", dict(variables))

    return be


# ------------------------------------------------------------------------------------------ what was started


def test_plain_python_is_alone_in_a_shell_and_in_a_job_of_one_task(environment, tmp_path):
    environment({})
    assert ranks.processes(tmp_path, None) == ALONE
    environment(BATCH | {"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1"})
    assert ranks.processes(tmp_path, 1) == ALONE


def test_torchrun_says_all(environment, tmp_path):
    environment(TORCHRUN)
    assert ranks.processes(tmp_path, 4) == Processes(1, 4, 1, 2, "torchrun")


def test_a_step_of_one_task_needs_nobody_to_meet(environment, tmp_path):
    environment(TASK | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_GTIDS": "0"})
    assert ranks.processes(tmp_path, None) == Processes(launcher="srun")
    assert not list(tmp_path.iterdir())
    assert "RANK" not in os.environ


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "0"}, "has RANK but not WORLD_SIZE, LOCAL_RANK"),
        ({name: value for name, value in TORCHRUN.items() if name != "MASTER_PORT"}, "not MASTER_PORT"),
        (TORCHRUN | {"RANK": "one"}, "RANK=one in the environment must be a whole number"),
        (TORCHRUN | {"LOCAL_RANK": "-1"}, "LOCAL_RANK=-1 in the environment must be a whole number"),
        (TORCHRUN | {"RANK": "4"}, "contradicts itself: RANK=4, WORLD_SIZE=4"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "contradicts itself"),
        (TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}, "contradicts itself"),
        (BATCH, "the job has 4 tasks on 2 nodes, but srun did not start this process"),
        (BATCH | {"SLURM_NTASKS": "1"}, "the job has 1 tasks on 2 nodes"),
        # a shell that salloc opens on the first node is a step of one task
        (TASK | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"}, "srun did not start this process"),
        (TASK | TORCHRUN | {"GROUP_WORLD_SIZE": "1"}, "4 tasks, but only 1 joined the rendezvous"),
        (TASK | TORCHRUN | {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}, "4 tasks, but only 2 joined the rendezvous"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE is 2, but the world size is 1 .from python.: mpirun"),
        ({"PMI_SIZE": "2"}, "PMI_SIZE is 2"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, r"hpc/accelerate/cpu\.yaml"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(environment, tmp_path, variables, words):
    environment(variables)
    with pytest.raises(UserError, match=words):
        ranks.processes(tmp_path, None)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {},
            r"is 8, but the world size is 1 \(from python\): .*torchrun, `accelerate launch` or srun",
        ),
        (TORCHRUN, r"but the world size is 4 \(from torchrun\): .*--nproc-per-node"),
        (
            TORCHRUN | {"ACCELERATE_MIXED_PRECISION": "no"},
            r"but the world size is 4 \(from accelerate launch\): .*--num_processes",
        ),
        (TASK, r"but the world size is 4 \(from srun\): .*--ntasks"),
        (
            {name: TORCHRUN[name] for name in TORCHRUN if "_RU" not in name},
            r"but the world size is 4 \(from WORLD_SIZE\)",
        ),
    ],
)
def test_another_number_than_expected_is_refused_before_anyone_waits(environment, tmp_path, variables, words):
    environment(variables)
    with pytest.raises(UserError, match=words):
        ranks.processes(tmp_path, 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
            "resources.engine=zero2 .now ddp",
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, "has distributed_type: FSDP, .*MULTI_GPU"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision: bf16, .*training.precision"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "dynamo_backend: inductor"),
    ],
)
def test_what_accelerate_was_told_and_would_not_be_done_is_refused(environment, variables, words):
    environment(variables)
    with pytest.raises(UserError, match=words):
        ranks.require_engine("ddp")


def test_a_launch_that_leaves_the_engine_to_the_settings_passes(environment):
    environment({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"})
    ranks.require_engine("zero2")


# -------------------------------------------------------------------------------------- meeting under srun


def test_a_task_of_srun_gets_what_torch_looks_for(environment, tmp_path):
    environment(TASK)
    assert ranks.processes(tmp_path, 4) == Processes(0, 4, 0, 2, "srun")
    chosen = os.environ["MASTER_PORT"]
    environment(LAST_TASK)
    assert ranks.processes(tmp_path, 4) == Processes(3, 4, 1, 2, "srun")
    told = {name: os.environ[name] for name in (*TORCHRUN,) if name in os.environ}
    assert told == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": chosen,
    }
    assert 1024 < int(chosen) < 32768


def test_the_ports_chosen_are_free_and_differ():
    with socket.socket() as listener:
        listener.bind(("", ranks.free_port()))
        listener.listen()
        ports = {ranks.free_port() for _ in range(20)}
        assert listener.getsockname()[1] not in ports
    assert len(ports) > 10  # two runs that begin on one node seldom choose the same


def test_an_address_and_a_port_that_are_set_are_taken(environment, tmp_path):
    environment(TASK | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "23456"})
    ranks.processes(tmp_path, None)
    environment(LAST_TASK)
    ranks.processes(tmp_path, None)
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("127.0.0.1", "23456")


def test_a_requeued_launch_waits_for_its_own_rank_0_and_clears_up(environment, tmp_path, monkeypatch):
    environment(TASK)
    ranks.processes(tmp_path, None)  # the launch before, killed
    monkeypatch.setattr(ranks, "_PATIENCE_S", 0.3)
    environment(LAST_TASK | {"SLURM_RESTART_COUNT": "1"})
    with pytest.raises(UserError, match=r"job-17-0-launch-1-step-0\.json: rank 0 has not written this file .*share"):
        ranks.processes(tmp_path, None)
    for task in (TASK, LAST_TASK):
        environment(task | {"SLURM_RESTART_COUNT": "1"})
        ranks.processes(tmp_path, None)
    environment(TASK | {"SLURM_RESTART_COUNT": "1", "SLURM_STEP_ID": "1"})  # another run in the same job
    ranks.processes(tmp_path, None)
    there = sorted(file.name for file in (tmp_path / "rendezvous").iterdir())
    assert there == ["job-17-0-launch-1-step-0.json", "job-17-0-launch-1-step-1.json"]


def test_a_node_that_cannot_be_found_is_named_at_once(environment, tmp_path):
    environment(TASK | {"SLURMD_NODENAME": "no-such-node.invalid"})
    with pytest.raises(UserError, match=r"cannot resolve rank 0's node no-such-node\.invalid .*export MASTER_ADDR"):
        ranks.processes(tmp_path, None)


def test_an_output_folder_that_cannot_be_made_is_named(environment, tmp_path):
    (tmp_path / "rendezvous").write_text("a file")
    environment(TASK)
    with pytest.raises(UserError, match=r"rendezvous: cannot create the folder: .*choose another --out"):
        ranks.processes(tmp_path, None)


# ------------------------------------------------------------------------------------------- real launchers

REDUCE = """
import sys
from pathlib import Path
from fgssl.errors import exit_code
from hpc import ranks

def main():
    place = ranks.processes(Path(sys.argv[1]), int(sys.argv[2]))
    ranks.require_engine("ddp")
    import torch
    import torch.distributed as dist
    from accelerate import Accelerator
    total = torch.tensor(place.rank + 1)
    if Accelerator(cpu=True).num_processes > 1:
        dist.all_reduce(total)
        dist.destroy_process_group()
    record = f"{place.launcher}, {place.rank} of {place.world_size}, {place.local_rank} of {place.local_world_size}"
    Path(sys.argv[1], f"rank-{place.rank}").write_text(f"{record}: {total}")
    return 0

sys.exit(exit_code(main))
"""


@pytest.fixture
def script(tmp_path) -> Path:
    """Return a script OUT EXPECTED; each process writes its ranks and the sum of rank + 1 over all to OUT/rank-*."""
    file = tmp_path / "reduce.py"
    file.write_text(REDUCE)
    return file


def _bare() -> dict[str, str]:
    """Return this environment without variables of a launcher or a job."""
    foreign = ("SLURM_", "ACCELERATE_", "TORCHELASTIC_", "MASTER_", "PMI_", "OMPI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign) or name == "SLURM_CONF"}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _launch(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, env=_bare(), capture_output=True, text=True, timeout=120, check=False)


def _places(out: Path) -> list[str]:
    return [file.read_text() for file in sorted(out.glob("rank-*"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "launcher"),
    [
        (["torchrun", "--nproc-per-node", "2"], "torchrun"),
        (["accelerate", "launch", "--config_file", ACCELERATE / "cpu.yaml"], "accelerate launch"),
        (["accelerate", "launch", "--config_file", ACCELERATE / "one_node.yaml"], "accelerate launch"),
        (["accelerate", "launch", "--config_file", ACCELERATE / "deepspeed.yaml"], "accelerate launch"),
    ],
    ids=lambda value: "" if isinstance(value, str) else Path(value[-1]).stem,
)
def test_two_processes_of_a_launcher_find_each_other(script, tmp_path, command, launcher):
    number = ["--num_processes", "2"] if launcher == "accelerate launch" else []
    ended = _launch(BIN / command[0], *command[1:], *number, script, tmp_path, 2)
    assert ended.returncode == 0, ended.stderr
    assert _places(tmp_path) == [f"{launcher}, 0 of 2, 0 of 2: 3", f"{launcher}, 1 of 2, 1 of 2: 3"]


@pytest.mark.slow
def test_accelerate_launch_on_two_machines(script, tmp_path):
    machine = [BIN / "accelerate", "launch", "--config_file", ACCELERATE / "several_nodes.yaml", "--num_machines", "2"]
    machine += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", ranks.free_port()]
    started = [
        subprocess.Popen(
            [*map(str, machine), "--machine_rank", str(rank), str(script), str(tmp_path), "2"],
            env=_bare(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in started:
            _, messages = process.communicate(timeout=120)
            assert process.returncode == 0, messages
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert _places(tmp_path) == [f"accelerate launch, {rank} of 2, 0 of 1: 3" for rank in (0, 1)]


def test_accelerate_configs_leave_the_number_to_the_command_and_the_rest_to_the_settings():
    """Accelerate stops where the number is -1 and the command line says none."""
    files = sorted(ACCELERATE.glob("*.yaml"))
    assert len(files) == 4
    for file in files:
        told = read_yaml(file)
        assert (told["num_processes"], told["mixed_precision"], told["distributed_type"]) == (-1, "no", "MULTI_GPU")
        assert f"--config_file hpc/accelerate/{file.name}" in file.read_text()


@pytest.mark.slow
def test_accelerate_launch_cpu_starts_one_process_and_the_run_stops(script, tmp_path):
    """Its Python gets MASTER_ADDR where several were asked for; where one was, only the expected number tells."""
    for asked, words in ((2, "has options for several processes but started one"), (1, "expected_processes is 2, but")):
        ended = _launch(BIN / "accelerate", "launch", "--cpu", "--num_processes", asked, script, tmp_path, 2)
        assert ended.returncode != 0
        assert words in ended.stderr
    assert not _places(tmp_path)


@pytest.mark.slow
def test_accelerate_launch_with_deepspeed_of_its_own_is_refused(script, tmp_path):
    pytest.importorskip("deepspeed")
    words = ["--use_deepspeed", "--zero_stage", "3", "--num_processes", "1", "--main_process_port", "0"]
    ended = _launch(BIN / "accelerate", "launch", *words, script, tmp_path, 1)
    assert ended.returncode != 0
    assert "set resources.engine=zero3 (now ddp)" in ended.stderr
    assert not _places(tmp_path)


@pytest.mark.slow
def test_tasks_of_srun_find_each_other(script, tmp_path):
    """Without Slurm, but with its variables: two tasks on the first node, one on the second, rank 0 last to come."""
    common = _bare() | TASK | {"SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3"}
    started = []
    for rank, local_rank, on_node in ((2, 0, "2"), (1, 1, "0,1"), (0, 0, "0,1")):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(local_rank), "SLURM_GTIDS": on_node}
        command = [sys.executable, str(script), str(tmp_path), "3"]
        started.append(subprocess.Popen(command, env=common | own, stderr=subprocess.PIPE, text=True))
    try:
        for process in started:
            _, messages = process.communicate(timeout=120)
            assert process.returncode == 0, messages
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert _places(tmp_path) == ["srun, 0 of 3, 0 of 2: 6", "srun, 1 of 3, 1 of 2: 6", "srun, 2 of 3, 0 of 1: 6"]
    assert not list((tmp_path / "rendezvous").iterdir())


def _slurm_is_here() -> bool:
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


@pytest.mark.slurm
@pytest.mark.skipif(not _slurm_is_here(), reason="no Slurm cluster answers")
def test_real_slurm(script, tmp_path):
    words = ["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem=400", "--chdir=/"]
    ended = _launch("srun", *words, sys.executable, script, tmp_path, 4)
    assert ended.returncode == 0, ended.stderr
    assert _places(tmp_path) == [f"srun, {rank} of 4, {rank % 2} of 2: 10" for rank in range(4)]
    without_srun = _launch("salloc", *words, sys.executable, script, tmp_path, 4)
    assert without_srun.returncode == 2
    assert "the job has 4 tasks on 2 nodes, but srun did not start this process" in without_srun.stderr
