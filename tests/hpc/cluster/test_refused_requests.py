"""Requests of jobs that violate the site's profile."""

import pytest

from hpc.cluster.schedulers.slurm.script import gpu_flag, memory_flag
from hpc.cluster.site.profile_files import load_profile
from tests.hpc.cluster.requesting import SLURM, problems_of, profile_in, profile_of, requested


def test_a_missing_account_where_one_is_mandatory():
    problems = problems_of(profile_of("karolina", account=False))
    [(key, words)] = problems.items()
    assert key == "account"
    assert words.startswith(f"{SLURM / 'karolina.yaml'}: account: is missing")
    assert "give cluster.account=OPEN-12-34 on the command line" in words
    assert requested(profile_of("trillium", account=False)).account is None


def test_an_account_of_another_site():
    profile = profile_of("karolina")
    words = problems_of(profile, account="project_465000001")["jobs.tau.account"]
    assert words.startswith("sweep.yaml: jobs.tau.account: 'project_465000001' is not allowed")
    assert "OPEN-12-34" in words
    for name in ("OPEN-28-64", "eu-26-17", "DD-24-108"):
        assert requested(profile, account=name).account == name


def test_more_cores_than_jobs_may_have():
    words = problems_of(profile_of("lumi_g"), processes_per_node=8, cores_per_process=8)["jobs.tau.cores_per_process"]
    assert "8 x 8 cores on a node are 64, but jobs can use 56 of its 64" in words
    assert f"({SLURM / 'lumi_g.yaml'}: node.usable_cores): must be at most 7" in words
    assert requested(profile_of("lumi_g"), processes_per_node=8, cores_per_process=7).cpus_per_task == 7


def test_more_processes_than_cores():
    words = problems_of(profile_of("fir"), on_gpus=False, processes_per_node=200)["jobs.tau.processes_per_node"]
    assert "200 x 1 cores on a node are 200, but jobs can use 192" in words


def test_two_gpus_where_one_or_four_are_given():
    words = problems_of(profile_of("trillium"), processes_per_node=2)["jobs.tau.processes_per_node"]
    assert "2 processes need 2 GPUs on a node, but must be 1 or 4" in words
    assert "trillium.yaml: gpu.counts" in words
    words = problems_of(profile_of("trillium"), runs_per_job=3)["jobs.tau.runs_per_job"]
    assert "3 runs need 3 GPUs on a node, but must be 1 or 4" in words
    assert [gpu_flag(requested(profile_of("trillium"), processes_per_node=count)) for count in (1, 4)] == ["1", "4"]


def test_several_nodes_where_they_must_be_whole():
    words = problems_of(profile_of("trillium"), nodes=2)["jobs.default.processes_per_node"]
    assert "1 processes need 1 GPUs on a node, but multi-node jobs must use all 4" in words
    assert gpu_flag(requested(profile_of("trillium"), nodes=2, processes_per_node=4)) == "4"


def test_more_gpus_than_a_node_has():
    words = problems_of(profile_of("narval"), processes_per_node=8)["jobs.tau.processes_per_node"]
    assert "8 processes need 8 GPUs on a node, but it has 4" in words
    assert "use more nodes" in words
    assert "runs_per_gpu" in problems_of(profile_of("narval"), runs_per_job=5)["jobs.tau.runs_per_job"]


@pytest.mark.parametrize(
    ("name", "partition", "walltime_min", "words"),
    [
        ("karolina", None, 2881, "2881 must not exceed 2880 for one job"),
        ("karolina", "qgpu", 3000, "partitions.qgpu.limits.longest_walltime_min, unverified"),
        ("lumi_g", "standard-g", 2881, "partitions.standard-g.limits.longest_walltime_min"),
        ("lumi_g", "dev-g", 240, "240 must not exceed 180 for one job"),
        ("narval", None, 10081, "10081 must not exceed 10080 for one job"),
        ("trillium", None, 1441, "1441 must not exceed 1440 for one job"),
        ("narval", None, 59, "59 must be at least 60 for one job"),
        ("narval", None, 5, "cluster.limits.shortest_walltime_min=5"),
        ("generic", None, 3, "3 min leave no time for work, since jobs stop 180 s before the end"),
    ],
)
def test_a_walltime_that_is_not_given(name, partition, walltime_min, words):
    problems = problems_of(profile_of(name), partition=partition, walltime_min=walltime_min)
    assert list(problems) == ["jobs.tau.walltime_min"]
    assert words in problems["jobs.tau.walltime_min"]


def test_a_walltime_at_the_limit_is_given():
    assert requested(profile_of("lumi_g"), partition="dev-g", walltime_min=180).walltime_min == 180
    assert requested(profile_of("narval"), walltime_min=60).walltime_min == 60
    test = profile_of("narval", "cluster.limits.shortest_walltime_min=5")
    assert requested(test, walltime_min=5).walltime_min == 5


def test_an_unknown_partition():
    words = problems_of(profile_of("lumi_g"), partition="standart-g")["jobs.tau.partition"]
    assert "unknown partition 'standart-g': did you mean 'standard-g'?" in words
    assert "small-g" in words
    assert requested(profile_of("generic"), partition="whatever").partition == "whatever"


def test_a_partition_where_none_may_be_named():
    words = problems_of(profile_of("narval"), partition="gpu")["jobs.tau.partition"]
    assert "'gpu' is not allowed: leave it empty" in words


def test_gpus_in_a_partition_without():
    words = problems_of(profile_of("karolina"), partition="qcpu")["jobs.tau.partition"]
    assert "'qcpu' has no GPUs" in words
    assert "choose one with GPUs: qgpu, qgpu_exp, qgpu_preempt, qgpu_free" in words


def test_gpus_where_there_are_none(tmp_path):
    assert "there are none" in problems_of(profile_in(tmp_path))["jobs.default.processes_per_node"]


def test_no_gpus_where_jobs_without_are_not_taken():
    words = problems_of(profile_of("trillium"), on_gpus=False)["jobs.default.processes_per_node"]
    assert "jobs without GPUs are not accepted" in words


def test_more_memory_than_a_node_has():
    words = problems_of(profile_of("narval"), memory_gb_per_node=499.0)["jobs.tau.memory_gb_per_node"]
    assert "499 must not exceed the 498 GB of a node" in words
    assert memory_flag(requested(profile_of("narval"), memory_gb_per_node=498.0)) == "498G"
    assert memory_flag(requested(profile_of("narval"), memory_gb_per_node=0.5)) == "512M"


def test_memory_where_it_would_be_ignored():
    words = problems_of(profile_of("trillium"), memory_gb_per_node=100.0)["jobs.tau.memory_gb_per_node"]
    assert "100 would be ignored" in words


def test_more_nodes_than_a_job_may_have():
    words = problems_of(profile_of("lumi_g"), nodes=5)["jobs.tau.nodes"]
    assert "5 must not exceed 4 for one job" in words
    assert requested(profile_of("lumi_g"), nodes=4).nodes == 4
    assert requested(profile_of("lumi_g"), nodes=5, partition="standard-g").nodes == 5


def test_packing_does_not_go_with_runs_of_several_processes():
    problems = problems_of(profile_of("karolina"), runs_per_job=2, nodes=2, processes_per_node=2)
    assert set(problems) == {"jobs.tau.nodes", "jobs.tau.processes_per_node"}
    assert "packed runs have one process" in problems["jobs.tau.nodes"]
    assert (
        "unless runs_per_job is larger than 1"
        in problems_of(profile_of("karolina"), runs_per_gpu=2)["jobs.tau.runs_per_gpu"]
    )
    crowd = problems_of(profile_of("karolina"), on_gpus=False, runs_per_job=2, runs_per_gpu=2)
    assert set(crowd) == {"jobs.tau.runs_per_gpu"}


def test_a_container_that_is_not_given():
    profile = load_profile(SLURM / "lumi_g.yaml", ["cluster.account=project_465000001"])
    words = problems_of(profile)["environment.container"]
    assert "cluster.environment.container=IMAGE" in words


def test_a_container_that_nothing_runs_in() -> None:
    words = problems_of(profile_of("generic", "cluster.environment.container=/project/fgssl.sif"))[
        "environment.container"
    ]
    assert "jobs would run outside of it" in words


@pytest.mark.parametrize("option", ["time", "cpus-per-task", "--mem", "account", "requeue"])
def test_options_that_are_set_from_other_keys(option):
    assert (
        f"{option!r} is set from other keys"
        in problems_of(profile_of("generic"), options={option: "1"})["jobs.tau.options"]
    )


def test_all_problems_at_once():
    problems = problems_of(
        profile_of("lumi_g", account=False),
        partition="dev-g",
        processes_per_node=9,
        cores_per_process=8,
        walltime_min=300,
        memory_gb_per_node=600.0,
        options={"exclusive": False},
    )
    assert set(problems) == {
        "account",
        "jobs.tau.processes_per_node",
        "jobs.tau.cores_per_process",
        "jobs.tau.walltime_min",
        "jobs.tau.memory_gb_per_node",
        "jobs.tau.options",
    }


def test_a_consequence_is_no_second_problem():
    [words] = problems_of(profile_of("nibi"), processes_per_node=99).values()
    assert "99 processes need 99 GPUs on a node, but it has 8" in words
    both = problems_of(profile_of("nibi"), processes_per_node=99, cores_per_process=15)
    assert "8 x 15 cores on a node are 120, but jobs can use 112" in both["jobs.tau.cores_per_process"]
    crowd = problems_of(profile_of("karolina"), runs_per_job=200, runs_per_gpu=32)  # each has a core at least
    assert list(crowd) == ["jobs.tau.runs_per_job"]
    assert "200 x 1 cores on a node are 200, but jobs can use 128" in crowd["jobs.tau.runs_per_job"]
