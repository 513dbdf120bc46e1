"""Requests of jobs that follow from the site's profile."""

import pytest

from hpc.cluster.schedulers.slurm.script import gpu_flag, memory_flag
from hpc.cluster.site.requests import described, for_runs
from tests.hpc.cluster.requesting import ACCOUNTS, profile_of, requested


@pytest.mark.parametrize(
    ("name", "flag", "cores", "memory", "partition"),
    [
        ("karolina", "1", 16, None, "qgpu"),
        ("lumi_g", "1", 7, "60G", "small-g"),
        ("narval", "a100:1", 12, "127488M", None),
        ("rorqual", "h100:1", 16, "127488M", None),
        ("fir", "h100:1", 12, "288000M", None),
        ("nibi", "h100:1", 14, "250G", None),
        ("trillium", "1", 24, None, None),
        ("generic", "1", 1, None, None),
    ],
)
def test_a_run_on_one_gpu(name, flag, cores, memory, partition):
    """With the GPU's share of cores and memory that the site's documentation gives."""
    job = requested(profile_of(name))
    assert (gpu_flag(job), job.cpus_per_task, memory_flag(job), job.partition) == (flag, cores, memory, partition)
    assert (job.nodes, job.tasks_per_node, job.gpus_per_node, job.walltime_min) == (1, 1, 1, 240)
    assert job.account == ACCOUNTS.get(name, "def-someuser")
    assert job.requeue


def test_a_run_on_several_nodes():
    job = requested(profile_of("narval"), nodes=2, processes_per_node=4, walltime_min=600)
    assert (job.nodes, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (2, 4, "a100:4", 12)
    assert memory_flag(job) == "498G"


def test_without_gpus():
    job = requested(profile_of("lumi_g"), on_gpus=False, processes_per_node=2)
    assert (job.partition, job.gpus_per_node, gpu_flag(job), job.cpus_per_task) == ("small", 0, None, 1)
    job = requested(profile_of("fir"), cores_per_process=20)
    assert (job.cpus_per_task, memory_flag(job)) == (20, "288000M")  # more cores than a GPU's share, no more memory
    job = requested(profile_of("fir"), on_gpus=False, cores_per_process=8)
    assert (job.cpus_per_task, memory_flag(job)) == (8, "32000M")  # 750 GB x 8 / 192


def test_a_whole_node_is_asked_for_whole():
    job = requested(profile_of("lumi_g"), partition="standard-g", processes_per_node=2)
    assert (job.gpus_per_node, job.tasks_per_node, memory_flag(job), job.whole_node) == (8, 2, "0", True)
    assert job.cpu_bind == "cores"


def test_the_binding_of_a_filled_node():
    profile = profile_of("lumi_g")
    masks = profile.whole_node_cpu_bind
    assert masks is not None
    assert len(masks.split(",")) == 8
    # As the guide has it: the 7 cores after the first of each group of 8, all 56 of them, none twice.
    cores = [int(mask, 16) for mask in masks.removeprefix("mask_cpu:").split(",")]
    assert [mask.bit_count() for mask in cores] == [7] * 8
    assert sum(cores).bit_count() == 56
    assert requested(profile, partition="standard-g", processes_per_node=8).cpu_bind == masks
    assert requested(profile, partition="standard-g", processes_per_node=8, cores_per_process=6).cpu_bind == "cores"
    assert requested(profile, processes_per_node=8).cpu_bind == "cores"


def test_packed_runs_share_a_job():
    job = requested(profile_of("karolina"), runs_per_job=8)
    assert (job.runs, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (8, 8, "8", 16)
    job = requested(profile_of("karolina"), runs_per_job=12, runs_per_gpu=2)
    assert (job.runs, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (12, 12, "6", 8)
    job = requested(profile_of("lumi_g"), partition="standard-g", runs_per_job=16, runs_per_gpu=2)
    assert (job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (16, "8", 3)


@pytest.mark.parametrize(
    ("name", "asked", "runs", "tasks", "flag", "memory"),
    [
        ("karolina", {"runs_per_job": 8}, 8, 8, "8", None),
        ("karolina", {"runs_per_job": 8}, 3, 3, "3", None),
        ("karolina", {"runs_per_job": 12, "runs_per_gpu": 2}, 5, 5, "3", None),
        ("karolina", {"runs_per_job": 8, "partition": "qgpu_free"}, 3, 3, "8", None),  # whole nodes
        ("trillium", {"runs_per_job": 4}, 3, 3, "4", None),  # 1 or 4
        ("trillium", {"runs_per_job": 4}, 1, 1, "1", None),
        ("lumi_g", {"runs_per_job": 8}, 3, 3, "3", "180G"),
        ("lumi_g", {"runs_per_job": 8, "partition": "standard-g"}, 3, 3, "8", "0"),
        ("narval", {"runs_per_job": 4, "memory_gb_per_node": 100.0}, 3, 3, "a100:3", "75G"),
        ("narval", {}, 1, 1, "a100:1", "127488M"),
    ],
)
def test_a_smaller_pack_asks_for_less(name, asked, runs, tasks, flag, memory):
    job = for_runs(requested(profile_of(name), **asked), runs)
    assert (job.tasks_per_node, gpu_flag(job), memory_flag(job)) == (tasks, flag, memory)
    assert job.gpus_per_node == int((gpu_flag(job) or "").rpartition(":")[2])


def test_a_smaller_pack_without_gpus():
    full = requested(profile_of("fir"), on_gpus=False, runs_per_job=4)
    assert (full.tasks_per_node, memory_flag(full)) == (4, "16000M")
    job = for_runs(full, 1)
    assert (job.tasks_per_node, job.gpus_per_node, gpu_flag(job), memory_flag(job)) == (1, 0, None, "4000M")


def test_what_is_asked_for_in_words():
    job = requested(profile_of("narval"), nodes=2, processes_per_node=4, walltime_min=600, qos="high")
    assert described(job, {"nodes", "processes_per_node", "walltime_min"}) == (
        "2 nodes x 4 tasks, 4 GPUs and 48 cores per node, 600 min, the site's partition (default), account "
        "def-someuser, QOS high"
    )
    job = requested(profile_of("lumi_g"), on_gpus=False)
    assert described(job, set()) == (
        "1 node x 1 task (default), 1 core per node, 240 min (default), partition small (default), "
        "account project_465000001"
    )
    assert described(requested(profile_of("karolina"), runs_per_job=8), {"runs_per_job"}).startswith(
        "1 node x 8 runs, 8 GPUs and 128 cores per node, 240 min (default), partition qgpu (default)"
    )


def test_the_environment_of_a_site():
    job = requested(profile_of("lumi_g"))
    assert job.python is not None
    assert job.python.endswith(" /project/fgssl.sif python3")
    assert 'NCCL_SOCKET_IFNAME="hsn"; export NCCL_SOCKET_IFNAME' in job.setup
    assert requested(profile_of("narval")).modules == ("StdEnv/2023", "python/3.12")
    spaces = profile_of("lumi_g", "cluster.environment.container=/my images/a.sif")
    assert str(requested(spaces).python).endswith(" '/my images/a.sif' python3")
