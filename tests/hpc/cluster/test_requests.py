"""What a job asks for, against what its site gives; and the sbatch script that submitit makes of it."""

import dataclasses
import re
from pathlib import Path

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from fgssl.errors import SettingsError
from fgssl.settings.layers import Place, to_yaml
from hpc.cluster.schedulers.slurm.script import gpu_flag, memory_flag, sbatch_options
from hpc.cluster.site.job_settings import JobSettings, Origin, read_jobs
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.profile_files import load_profile
from hpc.cluster.site.requests import JobRequest, described, for_runs, request

SLURM = Path(__file__).parents[3] / "slurm"
ACCOUNTS = {"karolina": "OPEN-12-34", "lumi_g": "project_465000001", "generic": "any"}


def _profile(name: str, *overrides: str, account: bool = True) -> Profile:
    given = [f"cluster.account={ACCOUNTS.get(name, 'def-someuser')}"] if account else []
    image = ["cluster.environment.container=/project/fgssl.sif"] if name == "lumi_g" else []
    return load_profile(SLURM / f"{name}.yaml", [*given, *image, *overrides])


def _mine(folder: Path, **content) -> Profile:
    file = folder / "mine.yaml"
    file.write_text(to_yaml({"site": "here"} | content))
    return load_profile(file)


def _request(profile: Profile, on_gpus: bool = True, **asked) -> JobRequest:
    return request(JobSettings(**asked), profile, on_gpus, "job")


def _problems(profile: Profile, on_gpus: bool = True, **asked) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        request(
            JobSettings(**asked),
            profile,
            on_gpus,
            "job",
            Origin({key: Place("sweep.yaml", f"jobs.tau.{key}") for key in asked}),
        )
    return {problem.key: str(problem) for problem in caught.value.problems}


def _script(job: JobRequest, **more) -> list[str]:
    return _make_sbatch_string(command="python", folder="folder", **sbatch_options(job), **more).splitlines()


# -------------------------------------------------------------------------------------- what is asked for


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
    job = _request(_profile(name))
    assert (gpu_flag(job), job.cpus_per_task, memory_flag(job), job.partition) == (flag, cores, memory, partition)
    assert (job.nodes, job.tasks_per_node, job.gpus_per_node, job.walltime_min) == (1, 1, 1, 240)
    assert job.account == ACCOUNTS.get(name, "def-someuser")
    assert job.requeue


def test_a_run_on_several_nodes():
    job = _request(_profile("narval"), nodes=2, processes_per_node=4, walltime_min=600)
    assert (job.nodes, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (2, 4, "a100:4", 12)
    assert memory_flag(job) == "498G"


def test_without_gpus():
    job = _request(_profile("lumi_g"), on_gpus=False, processes_per_node=2)
    assert (job.partition, job.gpus_per_node, gpu_flag(job), job.cpus_per_task) == ("small", 0, None, 1)
    job = _request(_profile("fir"), cores_per_process=20)
    assert (job.cpus_per_task, memory_flag(job)) == (20, "288000M")  # more cores than a GPU's share, no more memory
    job = _request(_profile("fir"), on_gpus=False, cores_per_process=8)
    assert (job.cpus_per_task, memory_flag(job)) == (8, "32000M")  # 750 GB x 8 / 192


def test_a_whole_node_is_asked_for_whole():
    job = _request(_profile("lumi_g"), partition="standard-g", processes_per_node=2)
    assert (job.gpus_per_node, job.tasks_per_node, memory_flag(job), job.whole_node) == (8, 2, "0", True)
    assert job.cpu_bind == "cores"


def test_the_binding_of_a_filled_node():
    profile = _profile("lumi_g")
    masks = profile.whole_node_cpu_bind
    assert masks is not None
    assert len(masks.split(",")) == 8
    # As the guide has it: the 7 cores after the first of each group of 8, all 56 of them, none twice.
    cores = [int(mask, 16) for mask in masks.removeprefix("mask_cpu:").split(",")]
    assert [mask.bit_count() for mask in cores] == [7] * 8
    assert sum(cores).bit_count() == 56
    assert _request(profile, partition="standard-g", processes_per_node=8).cpu_bind == masks
    assert _request(profile, partition="standard-g", processes_per_node=8, cores_per_process=6).cpu_bind == "cores"
    assert _request(profile, processes_per_node=8).cpu_bind == "cores"


def test_packed_runs_share_a_job():
    job = _request(_profile("karolina"), runs_per_job=8)
    assert (job.runs, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (8, 8, "8", 16)
    job = _request(_profile("karolina"), runs_per_job=12, runs_per_gpu=2)
    assert (job.runs, job.tasks_per_node, gpu_flag(job), job.cpus_per_task) == (12, 12, "6", 8)
    job = _request(_profile("lumi_g"), partition="standard-g", runs_per_job=16, runs_per_gpu=2)
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
    job = for_runs(_request(_profile(name), **asked), runs)
    assert (job.tasks_per_node, gpu_flag(job), memory_flag(job)) == (tasks, flag, memory)
    assert job.gpus_per_node == int((gpu_flag(job) or "").rpartition(":")[2])


def test_a_smaller_pack_without_gpus():
    full = _request(_profile("fir"), on_gpus=False, runs_per_job=4)
    assert (full.tasks_per_node, memory_flag(full)) == (4, "16000M")
    job = for_runs(full, 1)
    assert (job.tasks_per_node, job.gpus_per_node, gpu_flag(job), memory_flag(job)) == (1, 0, None, "4000M")


def test_what_is_asked_for_in_words():
    job = _request(_profile("narval"), nodes=2, processes_per_node=4, walltime_min=600, qos="high")
    assert described(job, {"nodes", "processes_per_node", "walltime_min"}) == (
        "2 nodes x 4 tasks, 4 GPUs and 48 cores a node, 600 min, the site's partition (default), account def-someuser, "
        "QOS high"
    )
    job = _request(_profile("lumi_g"), on_gpus=False)
    assert described(job, set()) == (
        "1 node x 1 task (default), 1 core a node, 240 min (default), partition small (default), "
        "account project_465000001"
    )
    assert described(_request(_profile("karolina"), runs_per_job=8), {"runs_per_job"}).startswith(
        "1 node x 8 runs, 8 GPUs and 128 cores a node, 240 min (default), partition qgpu (default)"
    )


def test_the_environment_of_a_site():
    job = _request(_profile("lumi_g"))
    assert job.python is not None
    assert job.python.endswith(" /project/fgssl.sif python3")
    assert 'export NCCL_SOCKET_IFNAME="hsn"' in job.setup
    assert _request(_profile("narval")).setup == (
        "module load StdEnv/2023 || exit 74",
        "module load python/3.12 || exit 74",
    )
    spaces = _profile("lumi_g", "cluster.environment.container=/my images/a.sif")
    assert str(_request(spaces).python).endswith(" '/my images/a.sif' python3")


def test_where_requeueing_is_forbidden(tmp_path):
    job = _request(_mine(tmp_path, requeue="forbidden", cpu_node={}), on_gpus=False)
    assert not job.requeue
    script = _script(job)
    assert "#SBATCH --no-requeue" in script
    assert "#SBATCH --requeue" not in script


# ------------------------------------------------------------------------------------------ what is refused


def test_a_missing_account_where_one_is_mandatory():
    problems = _problems(_profile("karolina", account=False))
    [(key, words)] = problems.items()
    assert key == "account"
    assert words.startswith(f"{SLURM / 'karolina.yaml'}: account: is missing")
    assert "give cluster.account=OPEN-12-34 on the command line" in words
    assert _request(_profile("trillium", account=False)).account is None


def test_an_account_of_another_site():
    profile = _profile("karolina")
    words = _problems(profile, account="project_465000001")["jobs.tau.account"]
    assert words.startswith("sweep.yaml: jobs.tau.account: 'project_465000001' is not allowed")
    assert "OPEN-12-34" in words
    for name in ("OPEN-28-64", "eu-26-17", "DD-24-108"):
        assert _request(profile, account=name).account == name


def test_more_cores_than_jobs_may_have():
    words = _problems(_profile("lumi_g"), processes_per_node=8, cores_per_process=8)["jobs.tau.cores_per_process"]
    assert "8 x 8 cores on a node are 64, jobs may have 56 of its 64" in words
    assert f"({SLURM / 'lumi_g.yaml'}: node.usable_cores): allowed are up to 7" in words
    assert _request(_profile("lumi_g"), processes_per_node=8, cores_per_process=7).cpus_per_task == 7


def test_more_processes_than_cores():
    words = _problems(_profile("fir"), on_gpus=False, processes_per_node=200)["jobs.tau.processes_per_node"]
    assert "200 x 1 cores on a node are 200, jobs may have 192" in words


def test_two_gpus_where_one_or_four_are_given():
    words = _problems(_profile("trillium"), processes_per_node=2)["jobs.tau.processes_per_node"]
    assert "2 processes need 2 GPUs on a node: allowed are 1 or 4" in words
    assert "trillium.yaml: gpu.counts" in words
    words = _problems(_profile("trillium"), runs_per_job=3)["jobs.tau.runs_per_job"]
    assert "3 runs need 3 GPUs on a node: allowed are 1 or 4" in words
    assert [gpu_flag(_request(_profile("trillium"), processes_per_node=count)) for count in (1, 4)] == ["1", "4"]


def test_several_nodes_where_they_must_be_whole():
    words = _problems(_profile("trillium"), nodes=2)["jobs.default.processes_per_node"]
    assert "1 processes need 1 GPUs on a node: jobs of several nodes take all 4" in words
    assert gpu_flag(_request(_profile("trillium"), nodes=2, processes_per_node=4)) == "4"


def test_more_gpus_than_a_node_has():
    words = _problems(_profile("narval"), processes_per_node=8)["jobs.tau.processes_per_node"]
    assert "8 processes need 8 GPUs on a node, which has 4" in words
    assert "take more nodes" in words
    assert "runs_per_gpu" in _problems(_profile("narval"), runs_per_job=5)["jobs.tau.runs_per_job"]


@pytest.mark.parametrize(
    ("name", "partition", "walltime_min", "words"),
    [
        ("karolina", None, 2881, "2881 is over the 2880 of one job"),
        ("karolina", "qgpu", 3000, "partitions.qgpu.limits.longest_walltime_min, which nobody has verified"),
        ("lumi_g", "standard-g", 2881, "partitions.standard-g.limits.longest_walltime_min"),
        ("lumi_g", "dev-g", 240, "240 is over the 180 of one job"),
        ("narval", None, 10081, "10081 is over the 10080 of one job"),
        ("trillium", None, 1441, "1441 is over the 1440 of one job"),
        ("narval", None, 59, "59 is under the 60 of one job"),
        ("narval", None, 5, "cluster.limits.shortest_walltime_min=5"),
        ("generic", None, 3, "3 min leave no time for work: 180 s before the end jobs stop"),
    ],
)
def test_a_walltime_that_is_not_given(name, partition, walltime_min, words):
    problems = _problems(_profile(name), partition=partition, walltime_min=walltime_min)
    assert list(problems) == ["jobs.tau.walltime_min"]
    assert words in problems["jobs.tau.walltime_min"]


def test_a_walltime_at_the_limit_is_given():
    assert _request(_profile("lumi_g"), partition="dev-g", walltime_min=180).walltime_min == 180
    assert _request(_profile("narval"), walltime_min=60).walltime_min == 60
    test = _profile("narval", "cluster.limits.shortest_walltime_min=5")
    assert _request(test, walltime_min=5).walltime_min == 5


def test_an_unknown_partition():
    words = _problems(_profile("lumi_g"), partition="standart-g")["jobs.tau.partition"]
    assert "unknown partition 'standart-g': did you mean 'standard-g'?" in words
    assert "small-g" in words
    assert _request(_profile("generic"), partition="whatever").partition == "whatever"


def test_a_partition_where_none_may_be_named():
    words = _problems(_profile("narval"), partition="gpu")["jobs.tau.partition"]
    assert "'gpu' is not allowed: leave it empty" in words


def test_gpus_in_a_partition_without():
    words = _problems(_profile("karolina"), partition="qcpu")["jobs.tau.partition"]
    assert "'qcpu' has no GPUs" in words
    assert "those with GPUs are qgpu, qgpu_exp, qgpu_preempt, qgpu_free" in words


def test_gpus_where_there_are_none(tmp_path):
    assert "there are none" in _problems(_mine(tmp_path))["jobs.default.processes_per_node"]


def test_no_gpus_where_jobs_without_are_not_taken():
    words = _problems(_profile("trillium"), on_gpus=False)["jobs.default.processes_per_node"]
    assert "jobs without any are not taken" in words


def test_more_memory_than_a_node_has():
    words = _problems(_profile("narval"), memory_gb_per_node=499.0)["jobs.tau.memory_gb_per_node"]
    assert "499 is over the 498 GB of a node" in words
    assert memory_flag(_request(_profile("narval"), memory_gb_per_node=498.0)) == "498G"
    assert memory_flag(_request(_profile("narval"), memory_gb_per_node=0.5)) == "512M"


def test_memory_where_it_would_be_ignored():
    words = _problems(_profile("trillium"), memory_gb_per_node=100.0)["jobs.tau.memory_gb_per_node"]
    assert "100 would be ignored" in words


def test_more_nodes_than_a_job_may_have():
    words = _problems(_profile("lumi_g"), nodes=5)["jobs.tau.nodes"]
    assert "5 is over the 4 of one job" in words
    assert _request(_profile("lumi_g"), nodes=4).nodes == 4
    assert _request(_profile("lumi_g"), nodes=5, partition="standard-g").nodes == 5


def test_packing_does_not_go_with_runs_of_several_processes():
    problems = _problems(_profile("karolina"), runs_per_job=2, nodes=2, processes_per_node=2)
    assert set(problems) == {"jobs.tau.nodes", "jobs.tau.processes_per_node"}
    assert "only runs of one process share a job" in problems["jobs.tau.nodes"]
    assert "that takes runs_per_job over 1" in _problems(_profile("karolina"), runs_per_gpu=2)["jobs.tau.runs_per_gpu"]
    crowd = _problems(_profile("karolina"), on_gpus=False, runs_per_job=2, runs_per_gpu=2)
    assert set(crowd) == {"jobs.tau.runs_per_gpu"}


def test_a_container_that_is_not_given():
    profile = load_profile(SLURM / "lumi_g.yaml", ["cluster.account=project_465000001"])
    words = _problems(profile)["environment.container"]
    assert "cluster.environment.container=IMAGE" in words


def test_a_container_that_nothing_runs_in() -> None:
    words = _problems(_profile("generic", "cluster.environment.container=/project/fgssl.sif"))["environment.container"]
    assert "jobs would run outside of it" in words


@pytest.mark.parametrize("option", ["time", "cpus-per-task", "--mem", "account", "requeue"])
def test_options_that_are_set_from_other_keys(option):
    assert (
        f"{option!r} is set from other keys"
        in _problems(_profile("generic"), options={option: "1"})["jobs.tau.options"]
    )


def test_all_problems_at_once():
    problems = _problems(
        _profile("lumi_g", account=False),
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
    [words] = _problems(_profile("nibi"), processes_per_node=99).values()
    assert "99 processes need 99 GPUs on a node, which has 8" in words
    both = _problems(_profile("nibi"), processes_per_node=99, cores_per_process=15)
    assert "8 x 15 cores on a node are 120, jobs may have 112" in both["jobs.tau.cores_per_process"]
    crowd = _problems(_profile("karolina"), runs_per_job=200, runs_per_gpu=32)  # each has a core at least
    assert list(crowd) == ["jobs.tau.runs_per_job"]
    assert "200 x 1 cores on a node are 200, jobs may have 128" in crowd["jobs.tau.runs_per_job"]


def test_minutes_are_no_clock():
    job, origin = read_jobs({"tau": {"walltime_min": "4:00:00"}}, "sweep.yaml", ["tau"])["tau"]
    assert job.walltime_min == 240
    [fault] = origin.faults
    assert str(fault) == (
        "sweep.yaml: jobs.tau.walltime_min: '4:00:00' is not allowed: give minutes, e.g. 240 for four hours"
    )


def test_what_a_sweep_does_not_say_is_told_to_be_the_default():
    job, origin = read_jobs({"default": {"partition": "dev-g"}}, "sweep.yaml", ["tau"])["tau"]
    with pytest.raises(SettingsError, match="walltime_min: by default 240 is over the 180 of one job"):
        request(job, _profile("lumi_g"), True, "job", origin)


def test_a_value_of_the_default_block_is_named_there():
    with pytest.raises(SettingsError) as caught:
        request(JobSettings(walltime_min=9999, nodes=9), _profile("lumi_g"), True, "job", Origin())
    assert [problem.key for problem in caught.value.problems] == ["jobs.default.nodes", "jobs.default.walltime_min"]


# ----------------------------------------------------------------------------------------- a sweep's blocks


def test_a_block_lies_over_the_default_one():
    blocks = {"default": {"walltime_min": 600, "options": {"a": 1}}, "tau": {"nodes": 2, "options": {"b": True}}}
    jobs = read_jobs(blocks, "sweep.yaml", ["pretrain", "tau"])
    assert list(jobs) == ["default", "pretrain", "tau"]
    assert jobs["pretrain"][0] == jobs["default"][0] == JobSettings(walltime_min=600, options={"a": 1})
    job, origin = jobs["tau"]
    assert job == JobSettings(walltime_min=600, nodes=2, options={"a": 1, "b": True})
    assert job.options["b"] is True
    assert origin.problem("nodes", "x").key == "jobs.tau.nodes"
    assert origin.problem("walltime_min", "x").key == "jobs.default.walltime_min"


def test_a_sweep_that_says_nothing():
    assert read_jobs({}, "sweep.yaml", ["tau"])["tau"][0] == JobSettings()
    assert read_jobs({"default": None, "tau": None}, "sweep.yaml", ["tau"])["tau"][0] == JobSettings()


def test_all_faults_of_all_blocks_with_those_of_the_site():
    blocks = {"default": {"walltime": 3, "nodes": 9}, "tau": {"nodes": 0}, "tua": {}, "pretrain": 4}
    job, origin = read_jobs(blocks, "sweep.yaml", ["pretrain", "tau"])["tau"]
    with pytest.raises(SettingsError) as caught:
        request(job, _profile("lumi_g"), True, "job", origin)
    problems = {problem.key: problem.message for problem in caught.value.problems}
    assert {problem.source for problem in caught.value.problems} == {"sweep.yaml"}
    assert "9 is over the 4 of one job" in problems["jobs.default.nodes"]
    assert "did you mean 'walltime_min'?" in problems["jobs.default.walltime"]
    assert "greater than 0" in problems["jobs.tau.nodes"]
    assert "unknown stage or arm 'tua': did you mean 'tau'?" in problems["jobs.tua"]
    assert "4 is not allowed: give a mapping" in problems["jobs.pretrain"]
    with pytest.raises(SettingsError, match=re.escape("sweep.yaml: jobs: 3 is not allowed")):
        read_jobs(3, "sweep.yaml", [])


# ------------------------------------------------------------------------------------------ sbatch's options


def test_the_script_of_a_run_on_two_nodes():
    job = _request(
        _profile("narval"), nodes=2, processes_per_node=4, qos="high", options={"constraint": "a", "x": True}
    )
    job = dataclasses.replace(job, exclude=("n1", "n7"), after=("12_3", "14"), array_parallelism=5)
    script = _script(job, map_count=20)
    for line in (
        *("--job-name=job", "--time=240", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=12", "--mem=498G"),
        *("--gpus-per-node=a100:4", "--account=def-someuser", "--qos=high", "--requeue", "--signal=USR2@180"),
        *("--open-mode=append", "--exclude=n1,n7", "--dependency=afterok:12_3:14", "--array=0-19%5"),
        *("--constraint=a", "--x"),
    ):
        assert f"#SBATCH {line}" in script
    assert not [line for line in script if re.search("wckey|--error|--partition", line)]
    assert "module load StdEnv/2023 || exit 74" in script
    [srun] = [line for line in script if line.startswith("srun")]
    assert "--cpus-per-task=12 --kill-on-bad-exit=1 --wait=0 --cpu-bind=cores python" in srun


def test_runs_that_share_a_job_do_not_fall_with_one_another():
    job = _request(_profile("karolina"), runs_per_job=4)
    assert "--kill-on-bad-exit=0" in sbatch_options(job)["srun_args"]


def test_gpus_by_gres():
    profile = _profile("generic", "cluster.gpu.option=gres", "cluster.gpu.type=v100")
    script = _script(_request(profile, processes_per_node=2))
    assert "#SBATCH --gres=gpu:v100:2" in script
    assert not [line for line in script if "gpus-per-node" in line]
    assert "is set from other keys" in _problems(profile, options={"gres": "lscratch:10"})["jobs.tau.options"]
    assert "#SBATCH --gres=lscratch:10" in _script(_request(_profile("generic"), options={"gres": "lscratch:10"}))


def test_what_is_not_asked_for_is_not_in_the_script():
    script = "\n".join(_script(_request(_profile("generic", account=False), on_gpus=False)))
    for option in ("account", "partition", "mem", "gpus", "gres", "qos", "exclude", "dependency", "cpu-bind", "array"):
        assert f"--{option}" not in script
