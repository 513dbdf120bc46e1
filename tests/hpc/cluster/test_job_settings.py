"""Blocks of `jobs` in a sweep."""

import re
from typing import Any

import pytest

from fgssl.errors import SettingsError
from hpc.cluster.site.job_settings import JobSettings, Origin, read_jobs
from hpc.cluster.site.requests import request
from tests.hpc.cluster.requesting import profile_of


def test_minutes_are_no_clock():
    job, origin = read_jobs({"tau": {"walltime_min": "4:00:00"}}, "sweep.yaml", ["tau"])["tau"]
    assert job.walltime_min == 240
    [fault] = origin.faults
    assert str(fault) == (
        "sweep.yaml: jobs.tau.walltime_min: '4:00:00' is not allowed: must be a number of minutes, e.g. "
        "240 for four hours"
    )


def test_what_a_sweep_does_not_say_is_told_to_be_the_default():
    job, origin = read_jobs({"default": {"partition": "dev-g"}}, "sweep.yaml", ["tau"])["tau"]
    with pytest.raises(SettingsError, match="walltime_min: by default 240 must not exceed 180 for one job"):
        request(job, profile_of("lumi_g"), True, "job", origin)


def test_a_value_of_the_default_block_is_named_there():
    with pytest.raises(SettingsError) as caught:
        request(JobSettings(walltime_min=9999, nodes=9), profile_of("lumi_g"), True, "job", Origin())
    assert [problem.key for problem in caught.value.problems] == ["jobs.default.nodes", "jobs.default.walltime_min"]


def test_a_block_lies_over_the_default_one():
    blocks = {"default": {"walltime_min": 600, "options": {"nice": 1}}, "tau": {"nodes": 2, "options": {"hold": True}}}
    jobs = read_jobs(blocks, "sweep.yaml", ["pretrain", "tau"])
    assert list(jobs) == ["default", "pretrain", "tau"]
    assert jobs["pretrain"][0] == jobs["default"][0] == JobSettings(walltime_min=600, options={"nice": 1})
    job, origin = jobs["tau"]
    assert job == JobSettings(walltime_min=600, nodes=2, options={"nice": 1, "hold": True})
    assert job.options["hold"] is True
    assert origin.problem("nodes", "x").key == "jobs.tau.nodes"
    assert origin.problem("walltime_min", "x").key == "jobs.default.walltime_min"


def test_a_sweep_that_says_nothing():
    assert read_jobs({}, "sweep.yaml", ["tau"])["tau"][0] == JobSettings()
    assert read_jobs({"default": None, "tau": None}, "sweep.yaml", ["tau"])["tau"][0] == JobSettings()


def test_all_faults_of_all_blocks_with_those_of_the_site():
    blocks = {"default": {"walltime": 3, "nodes": 9}, "tau": {"nodes": 0}, "tua": {}, "pretrain": 4}
    job, origin = read_jobs(blocks, "sweep.yaml", ["pretrain", "tau"])["tau"]
    with pytest.raises(SettingsError) as caught:
        request(job, profile_of("lumi_g"), True, "job", origin)
    problems = {problem.key: problem.message for problem in caught.value.problems}
    assert {problem.source for problem in caught.value.problems} == {"sweep.yaml"}
    assert "9 must not exceed 4 for one job" in problems["jobs.default.nodes"]
    assert "did you mean 'walltime_min'?" in problems["jobs.default.walltime"]
    assert "greater than 0" in problems["jobs.tau.nodes"]
    assert "unknown stage or arm 'tua': did you mean 'tau'?" in problems["jobs.tua"]
    assert "4 is not allowed: give a mapping" in problems["jobs.pretrain"]
    with pytest.raises(SettingsError, match=re.escape("sweep.yaml: jobs: 3 is not allowed")):
        read_jobs(3, "sweep.yaml", [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constraint": None}, "options.constraint: null is not allowed: give a text or a number, or true for an"),
        ({"constraint": ["a"]}, "options.constraint: ['a'] is not allowed: give a text or a number, or true for an"),
        ({"comment": "a\n#SBATCH --hold"}, "options.comment: 'a\\n#SBATCH --hold' is not allowed: give one line"),
        *[
            ({name: "x"}, f"{name!r} is not allowed: write the option's long name")
            for name in ("p", "QOS", "qos ", "J")
        ],
        *[({name: "x"}, f"{name!r} is not allowed: write the option's long name") for name in ("", "-c", "a:b", "a=b")],
        ({"mail-user": "x", "mail_user": "y"}, "'mail_user' is given twice: keep one of them"),
        ({"hold": True, "--hold": True}, "'--hold' is given twice: keep one of them"),
    ],
)
def test_options_that_the_scheduler_would_read_otherwise(options: dict[str, Any], message: str) -> None:
    _, origin = read_jobs({"tau": {"options": options}}, "sweep.yaml", ["tau"])["tau"]
    [fault] = origin.faults
    assert str(fault).startswith("sweep.yaml: jobs.tau.options")
    assert message in str(fault)


def test_an_option_in_two_spellings_in_two_blocks() -> None:
    blocks = {"default": {"options": {"mail-user": "x"}}, "tau": {"options": {"mail_user": "y"}}}
    with pytest.raises(SettingsError, match="'mail_user' is given twice: keep one of them"):
        read_jobs(blocks, "sweep.yaml", ["tau"])


@pytest.mark.parametrize(
    "name", ["constraint", "mail-user", "mail_user", "--mail-user", "x11", "gres-flags", "exclusive"]
)
def test_names_of_options(name: str) -> None:
    job, origin = read_jobs({"tau": {"options": {name: True}}}, "sweep.yaml", ["tau"])["tau"]
    assert (job.options, origin.faults) == ({name: True}, ())
    request(job, profile_of("fir"), True, "job", origin)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("job-nam", "'job-nam' stands for job-name, which is set from other keys: remove it here"),
        ("--part", "'--part' stands for partition, which is set from other keys: remove it here"),
        ("job_name", "'job_name' is set from other keys: remove it here"),
    ],
)
def test_the_beginning_of_an_option_that_other_keys_set(name: str, message: str) -> None:
    job, origin = read_jobs({"tau": {"options": {name: "x"}}}, "sweep.yaml", ["tau"])["tau"]
    with pytest.raises(SettingsError) as caught:
        request(job, profile_of("fir"), True, "job", origin)
    assert f"sweep.yaml: jobs.tau.options: {message}" in map(str, caught.value.problems)
