"""Forecasts of cost and quotas, against numbers computed by hand from the sites' own formulas."""

from pathlib import Path

import pytest

from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.costs import Forecast, Work, forecast, hourly_cost, submissions
from hpc.cluster.site.job_settings import JobSettings
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.profile_files import load_profile
from hpc.cluster.site.requests import request

SLURM = Path(__file__).parents[3] / "slurm"
ACCOUNTS = {"karolina": "OPEN-12-34", "lumi_g": "project_465000001"}


def _profile(name: str, *overrides: str) -> Profile:
    account = f"cluster.account={ACCOUNTS.get(name, 'def-someuser')}"
    image = ["cluster.environment.container=a.sif"] if name == "lumi_g" else []
    return load_profile(SLURM / f"{name}.yaml", [account, *image, *overrides])


def _job(profile: Profile, on_gpus: bool = True, **asked) -> JobRequest:
    return request(JobSettings(**asked), profile, on_gpus, "job")


def _hourly(name: str, on_gpus: bool = True, **asked) -> float:
    cost = hourly_cost(_job(_profile(name), on_gpus, **asked), _profile(name))
    assert cost is not None
    return cost[0]


def _forecast(profile: Profile, *work: Work) -> Forecast:
    return forecast(work, profile)


# ------------------------------------------------------------------------------------------- the formulas


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 0.5),  # 1 die, 7 cores, 60 GB
        ({"processes_per_node": 2}, 1.0),
        ({"cores_per_process": 8}, 0.5),
        ({"cores_per_process": 9}, 1.0),  # 9 cores are two begun eights
        ({"memory_gb_per_node": 64.0}, 0.5),
        ({"memory_gb_per_node": 65.0}, 1.0),  # two begun 64 GB
        ({"memory_gb_per_node": 128.0}, 1.0),  # the guide's example: 24 h of it are 24 GPU-hours
        ({"processes_per_node": 2, "cores_per_process": 20}, 2.5),  # 40 cores / 8 = 5
        ({"nodes": 2, "processes_per_node": 8}, 8.0),
        ({"partition": "standard-g", "processes_per_node": 8}, 4.0),  # 4 for each hour of a node
        ({"partition": "standard-g"}, 4.0),
        ({"partition": "standard-g", "nodes": 4, "processes_per_node": 8}, 16.0),  # the guide's 384 in 24 h
        ({"partition": "dev-g", "walltime_min": 60}, 0.5),
    ],
)
def test_lumi(asked, expected):
    assert _hourly("lumi_g", **asked) == expected


def test_lumi_without_gpus_counts_cores_or_2_gb():
    assert _hourly("lumi_g", on_gpus=False, cores_per_process=4) == 4.0
    assert _hourly("lumi_g", on_gpus=False, cores_per_process=4, memory_gb_per_node=32.0) == 16.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 0.125),
        ({"processes_per_node": 4}, 0.5),  # the site's example
        ({"nodes": 2, "processes_per_node": 8}, 2.0),
        ({"runs_per_job": 6, "runs_per_gpu": 2}, 0.375),
        ({"partition": "qgpu_free"}, 1.0),  # whole nodes
        ({"partition": "qgpu_preempt", "processes_per_node": 8}, 0.0),
    ],
)
def test_karolina(asked, expected):
    assert _hourly("karolina", **asked) == expected


def test_karolina_without_gpus_costs_the_whole_node():
    assert _hourly("karolina", on_gpus=False) == 1.0


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("narval", {}, 4.0),
        ("narval", {"processes_per_node": 4}, 16.0),
        ("narval", {"cores_per_process": 18}, 6.0),  # a bundle has 12 cores
        ("narval", {"memory_gb_per_node": 249.0}, 8.0),  # ... and 124.5 GB
        ("narval", {"nodes": 2, "memory_gb_per_node": 249.0}, 16.0),
        ("rorqual", {}, 12.2),
        ("rorqual", {"nodes": 2, "processes_per_node": 4}, 97.6),
        ("fir", {}, 12.2),
        ("nibi", {"processes_per_node": 8}, 97.6),
        ("trillium", {}, 12.2),
        ("trillium", {"processes_per_node": 4}, 48.8),
    ],
)
def test_reference_gpu_units(name, asked, expected):
    assert _hourly(name, **asked) == pytest.approx(expected, rel=1e-12)


def test_core_equivalents():
    assert _hourly("narval", on_gpus=False, cores_per_process=2, memory_gb_per_node=4.0) == 2.0
    assert _hourly("narval", on_gpus=False, cores_per_process=2, memory_gb_per_node=10.0) == 2.5


def test_a_site_whose_prices_are_not_known():
    profile = load_profile(SLURM / "generic.yaml")
    assert hourly_cost(_job(profile), profile) is None
    made = _forecast(profile, Work(_job(profile), 3, 3, 60))
    assert not [note for note in made.notes if note.startswith("cost")]
    assert any("the cost of 3 jobs is unknown" in note for note in made.notes)


# ---------------------------------------------------------------------------------------------- a forecast


def test_a_sweep_on_karolina():
    profile = _profile("karolina")
    pretrain = Work(_job(profile, processes_per_node=4), 3, 3, 120)
    points = Work(_job(profile, runs_per_job=8), 4, 32, 90)
    made = _forecast(profile, pretrain, points)
    # 3 x 2 h x 4/8 and 4 x 1.5 h x 8/8 node-hours
    assert not made.problems
    assert "cost: 9.0 node-hours" in made.notes
    assert made.notes[0] == "35 runs in 7 jobs on Karolina, IT4Innovations National Supercomputing Center"


@pytest.mark.parametrize(
    ("minutes", "expected"), [(None, 1), (10, 1), (237, 1), (238, 2), (240, 2), (474, 2), (475, 3), (2370, 10)]
)
def test_a_run_longer_than_the_walltime_takes_several_jobs(minutes, expected):
    """Of 240 minutes, the last 3 are for saving."""
    profile = _profile("narval")
    item = Work(_job(profile), 5, 5, minutes)
    assert submissions(item) == expected
    requeued = f"{5 * (expected - 1)} times a job will be requeued, since it needs more than its walltime"
    assert (requeued in _forecast(profile, item).notes) == (expected > 1)


def test_jobs_of_unknown_length_are_counted_apart():
    profile = _profile("lumi_g")
    made = _forecast(profile, Work(_job(profile), 10, 10, 60), Work(_job(profile, walltime_min=120), 4, 4, None))
    assert "cost: 5.0 GPU-hours" in made.notes
    # 4 x 2 h x 0.5
    assert "the duration of 4 jobs is unknown: 4.0 GPU-hours for one walltime of each" in made.notes


def test_units_are_not_mixed():
    profile = _profile("lumi_g")
    gpus, cores = _job(profile), _job(profile, on_gpus=False, cores_per_process=4)
    made = _forecast(profile, Work(gpus, 2, 2, 60), Work(cores, 1, 1, 30))
    assert [note for note in made.notes if note.startswith("cost")] == [
        "cost: 1.0 GPU-hours",
        "cost: 2.0 CPU-core-hours",
    ]


def test_more_jobs_than_may_be_submitted_are_fed_in():
    profile = _profile("lumi_g")
    made = _forecast(profile, Work(_job(profile), 300, 300, 60), Work(_job(profile, walltime_min=60), 200, 200, 30))
    [note] = [note for note in made.notes if "gradually" in note]
    assert note.startswith("500 jobs are submitted gradually, 210 at once")
    assert "partitions.small-g.limits.submitted" in note
    assert not [note for note in _forecast(profile, Work(_job(profile), 210, 210, 60)).notes if "gradually" in note]


def test_where_jobs_may_not_submit_somebody_must():
    profile = _profile("trillium")
    assert any("fgssl sync" in note for note in _forecast(profile, Work(_job(profile), 501, 501, 60)).notes)
    assert not any("fgssl sync" in note for note in _forecast(profile, Work(_job(profile), 500, 500, 60)).notes)
    forbidden = _profile("trillium", "cluster.requeue=forbidden")
    notes = _forecast(forbidden, Work(_job(forbidden), 1, 1, 1000)).notes
    assert any("4 times a job will be submitted again" in note for note in notes)
    assert any("fgssl sync" in note for note in notes)


def test_files_and_bytes_over_the_quotas():
    profile = _profile("lumi_g")
    item = Work(_job(profile, runs_per_job=4), 100, 400, 60, files_per_run=5_000, bytes_per_run=125 * 10**9)
    made = _forecast(profile, item)  # 2 million files and 50 TB: just what is allowed
    assert made.problems == ()
    on_top = "in addition to files that are there already"
    assert f"to be written: 2,000,000 files of 2,000,000 allowed, 50 TB of 50 allowed; {on_top}" in made.notes
    full = _forecast(profile, item, Work(_job(profile), 1, 1, 60, files_per_run=1, bytes_per_run=1))
    assert [problem.key for problem in full.problems] == ["storage.files", "storage.terabytes"]
    assert all(problem.source == str(SLURM / "lumi_g.yaml") for problem in full.problems)
    assert (
        f"2,000,001 files of these runs exceed the 2,000,000 allowed, {on_top}: submit fewer"
        in full.problems[0].message
    )
    assert f"50 TB of these runs exceed the 50 TB allowed, {on_top}: submit fewer" in full.problems[1].message
    assert "keep_checkpoints" in full.problems[1].message


def test_idle_gpus_of_a_whole_node_are_told():
    profile = _profile("lumi_g")
    made = _forecast(profile, Work(_job(profile, partition="standard-g"), 5, 5, 60))
    [note] = [note for note in made.notes if "whole nodes" in note]
    assert "only 1 of 8 GPUs would be used: set runs_per_job=8" in note
    packed = Work(_job(profile, partition="standard-g", runs_per_job=16, runs_per_gpu=2), 5, 80, 60)
    assert not [note for note in _forecast(profile, packed).notes if "whole nodes" in note]


def test_what_people_should_know():
    notes = "\n".join(_forecast(_profile("trillium"), Work(_job(_profile("trillium")), 1, 1, 60)).notes)
    assert "jobs cannot write to $HOME and $PROJECT" in notes
    assert "unverified in " in notes
    profile = _profile("narval")
    notes = "\n".join(_forecast(profile, Work(_job(profile), 1, 1, 60)).notes)
    assert "files on $SCRATCH are purged after 60 days without access" in notes


def test_nothing_to_do():
    made = _forecast(_profile("narval"))
    assert made.problems == ()
    assert made.notes[0].startswith("0 runs in 0 jobs")
    assert not [note for note in made.notes if note.startswith(("cost", "to be written")) or "times a job" in note]
