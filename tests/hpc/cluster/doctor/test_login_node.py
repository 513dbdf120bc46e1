"""Comparison of a profile with a login node, whose output was recorded from Slurm 22.05 and shortened."""

import os
from pathlib import Path

import pytest

from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.doctor.self_test import self_test_request
from hpc.cluster.schedulers.slurm.script import gpu_flag
from hpc.cluster.site.profile_files import load_profile
from tests.hpc.cluster.doctor.conftest import CONFIGURATION, GENERIC, NO_ACCOUNTING, Look, Recorded, node, partition


def verdicts(diagnosis: Diagnosis) -> dict[str, Verdict]:
    return {finding.subject: finding.verdict for finding in diagnosis.findings}


# --------------------------------------------------------------------------------------- a profile's values


def test_generic_is_filled(looked: Look) -> None:
    diagnosis = looked()
    profile = diagnosis.filled()
    assert profile.gpu is not None
    assert (profile.gpu.per_node, profile.gpu.cores, profile.gpu.type) == (4, 16, None)
    assert (profile.node.cores, profile.node.usable_cores, profile.node.memory_gb) == (64, None, 500)
    assert list(profile.partitions or {}) == ["gpu"]
    assert (profile.limits.array_index, profile.limits.longest_walltime_min) == (1000, 2880)
    assert (profile.limits.submitted, profile.limits.running) == (500, 20)
    assert profile.account == "project"
    assert verdicts(diagnosis)["gpu.per_node"] is Verdict.FOUND
    assert not {Verdict.DIFFERS, Verdict.WARNING, Verdict.UNKNOWN}.intersection(verdicts(diagnosis).values())


def test_file_is_the_filled_profile(looked: Look, tmp_path: Path) -> None:
    diagnosis = looked()
    file = tmp_path / "generic.yaml"
    file.write_text(diagnosis.yaml())
    written, filled = load_profile(file), diagnosis.filled()
    assert written.sources[-1].document == "Slurm 22.05.8 of tests, by fgssl doctor"
    for key in ("account", "partitions", "gpu", "node", "cpu_node", "limits", "requeue", "storage", "environment"):
        assert getattr(written, key) == getattr(filled, key), key


def test_agreeing_differing_and_unverified(looked: Look, tmp_path: Path) -> None:
    file = tmp_path / "here.yaml"
    file.write_text(
        "site: here\n"
        "unverified: [node.cores, limits.longest_walltime_min, cpu_bind, partitions.gpu.whole_node]\n"
        "partitions: {gpu: {whole_node: true, limits: {submitted: 500}}, old: {}}\n"
        "gpu: {per_node: 4, cores: 16}\n"
        "node: {cores: 64, memory_gb: 498}\n"
        "limits: {longest_walltime_min: 1440, running: 20}\n"
        "cpu_bind: cores\n"
    )
    diagnosis = looked(file)
    diagnosis.add_unverified()
    found = verdicts(diagnosis)
    same = ("gpu.per_node", "gpu.cores", "node.cores", "node.memory_gb", "partitions.gpu.limits.submitted")
    assert {found[key] for key in (*same, "limits.running")} == {Verdict.OK}  # 498 GB is a round 500
    different = ("limits.longest_walltime_min", "partitions.gpu.whole_node", "partitions.old")
    assert {found[key] for key in different} == {Verdict.DIFFERS}
    assert found["cpu_bind"] is Verdict.UNKNOWN
    file.write_text(diagnosis.yaml())
    profile = load_profile(file)
    assert profile.unverified == ("cpu_bind",)
    assert profile.limits.longest_walltime_min == 2880
    assert profile.node.memory_gb == 498
    assert profile.partitions is not None
    assert not profile.partitions["gpu"].whole_node


def test_command_line_is_not_replaced(looked: Look) -> None:
    diagnosis = looked(GENERIC, "cluster.gpu=null", "cluster.node.cores=60")
    profile = diagnosis.filled()
    assert profile.gpu is None
    assert profile.node.cores == 60
    assert verdicts(diagnosis)["node.cores"] is Verdict.DIFFERS


def test_limits_of_partitions(looked: Look, recorded: Recorded) -> None:
    """The site's where all have the same."""
    times = {"gpu": "2-00:00:00", "short": "1:00:00", "endless": "UNLIMITED"}
    lines = [partition(name, default="YES" if name == "gpu" else "NO", time=time) for name, time in times.items()]
    recorded.says("partition", "".join(lines) + partition("closed", state="DOWN"))
    partitions = looked().filled().partitions or {}
    assert {name: there.limits.longest_walltime_min for name, there in partitions.items()} == {
        "gpu": 2880,
        "short": 60,
        "endless": None,
    }


def test_site_that_chooses_the_partition(looked: Look, recorded: Recorded) -> None:
    """Of its partitions' limits, those are told that hold in any."""
    recorded.says("partition", partition("gpubase_bynode_b1", time="3:00:00"))
    profile = looked(GENERIC, "cluster.partitions={}").filled()
    assert profile.partitions == {}
    assert (profile.limits.submitted, profile.limits.longest_walltime_min) == (500, None)


def test_preemption(looked: Look, recorded: Recorded) -> None:
    recorded.says(
        "partition",
        partition("gpu", default="YES", preemption="REQUEUE", grace_s="120")
        + partition("at_once", preemption="CANCEL")
        + partition("high", tier="10", preemption="REQUEUE")
        + partition("apart", preemption="REQUEUE"),
    )
    recorded.says("node", node("n1", partitions="gpu,at_once,high") + node("n2", partitions="apart"))
    diagnosis = looked()
    partitions = diagnosis.filled().partitions or {}
    assert [(name, there.preemptible, there.grace_s) for name, there in partitions.items()] == [
        ("gpu", True, 120),
        ("at_once", True, None),
        ("high", False, None),
        ("apart", False, None),
    ]
    found = verdicts(diagnosis)
    assert found["partitions.at_once.grace_s"] is Verdict.WARNING
    assert found["send_user_signal"] is Verdict.OK
    recorded.says("config", CONFIGURATION.replace("preempt_send_user_signal", "(null)"))
    assert verdicts(looked())["send_user_signal"] is Verdict.WARNING
    newer = CONFIGURATION.replace("preempt_send_user_signal", "(null)")
    recorded.says("config", newer.replace("PreemptParameters       = (null)", "PreemptParameters = send_user_signal"))
    assert verdicts(looked())["send_user_signal"] is Verdict.OK
    recorded.says("config", CONFIGURATION.replace("partition_prio", "qos"))
    assert verdicts(looked())["preemptible"] is Verdict.UNKNOWN


# --------------------------------------------------------------------------------------------------- nodes


def test_hardware_threads_and_reserved_cores(looked: Look, recorded: Recorded) -> None:
    """Of 64 cores with two threads each, jobs may have 56; and 480 of 512 GB."""
    recorded.says("node", node("n1", cpus="128", cpus_for_jobs="112", memory_mb="524288 MemSpecLimit=32768"))
    kind = looked().filled().node
    assert (kind.cores, kind.usable_cores, kind.memory_gb) == (64, 56, 480)


def test_most_frequent_nodes_of_the_partition(looked: Look, recorded: Recorded) -> None:
    few = "".join(node(f"n{number}", partitions="gpu", gres="gpu:h100:2") for number in (1, 2))
    few += node("n3", partitions="gpu", gres="gpu:1g.5gb:7,gpu:a100:3")
    many = "".join(node(f"m{number}", partitions="other", gres="gpu:v100:8") for number in range(9))
    recorded.says("node", few + many)
    gpu = looked().filled().gpu
    assert gpu is not None
    assert (gpu.type, gpu.per_node) == ("h100", 2)
    gpu = looked(GENERIC, "cluster.gpu.type=a100").filled().gpu
    assert gpu is not None
    assert gpu.per_node == 3


def test_gpus_in_another_partition(looked: Look, recorded: Recorded) -> None:
    recorded.says("partition", partition("cpu", default="YES") + partition("gpu"))
    recorded.says("node", node("c1", partitions="cpu", gres="(null)", cores="64", cpus="128") + node("n1"))
    profile = looked().filled()
    assert (profile.partition, profile.cpu_partition) == ("gpu", "cpu")
    assert profile.cpu_node is not None
    assert (profile.cpu_node.cores, profile.node.cores) == (128, 64)
    assert self_test_request(profile).partition == "gpu"


def test_no_gpus(looked: Look, recorded: Recorded) -> None:
    recorded.says("node", node("n1", gres="(null)"))
    diagnosis = looked()
    assert verdicts(diagnosis)["gpu"] is Verdict.DIFFERS
    request = self_test_request(diagnosis.filled())
    assert (gpu_flag(request), request.nodes, request.tasks_per_node) == (None, 2, 2)


# ---------------------------------------------------------------------------------------- cluster and user


def test_accounts(looked: Look, recorded: Recorded) -> None:
    recorded.accounts("project|normal\nother|normal\n")
    assert verdicts(looked())["account"] is Verdict.OK
    assert verdicts(looked(GENERIC, "cluster.accounts.required=true"))["account"] is Verdict.WARNING
    assert verdicts(looked(GENERIC, "cluster.account=other"))["account"] is not Verdict.DIFFERS
    assert verdicts(looked(GENERIC, "cluster.account=nobody"))["account"] is Verdict.DIFFERS
    pattern = ("cluster.accounts.pattern='p.*'", "cluster.accounts.example=p")
    assert verdicts(looked(GENERIC, *pattern))["accounts.pattern"] is Verdict.WARNING


def test_without_a_database(looked: Look, recorded: Recorded) -> None:
    recorded.accounts("", error=NO_ACCOUNTING)
    recorded.says("config", CONFIGURATION.replace("associations,limits,qos", "none"))
    diagnosis = looked()
    assert verdicts(diagnosis)["accounts"] is Verdict.UNKNOWN
    assert diagnosis.filled().limits.array_index == 1000


@pytest.mark.parametrize(
    ("configured", "here", "subject"),
    [("JobRequeue              = 1", "JobRequeue              = 0", "JobRequeue"), ("22.05.8", "21.08.5", "Slurm")],
)
def test_configuration_to_mind(looked: Look, recorded: Recorded, configured: str, here: str, subject: str) -> None:
    assert verdicts(looked())[subject] is Verdict.OK
    recorded.says("config", CONFIGURATION.replace(configured, here))
    assert verdicts(looked())[subject] is Verdict.WARNING


@pytest.mark.parametrize("name", ["SBATCH_ACCOUNT", "SBATCH_NO_REQUEUE", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK"])
def test_variables_of_the_shell(looked: Look, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    assert verdicts(looked())["shell"] is Verdict.OK
    monkeypatch.setenv(name, "1")
    assert verdicts(looked())["shell"] is Verdict.WARNING


def test_missing_commands(looked: Look, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    (recorded.folder / "sacct").unlink()
    monkeypatch.setenv("PATH", f"{recorded.folder}{os.pathsep}{tools(recorded.folder.parent)}")
    [finding] = [finding for finding in looked().findings if finding.subject == "commands"]
    assert finding.verdict is Verdict.WARNING
    assert "not on PATH: sacct:" in finding.message


def tools(folder: Path) -> Path:
    """Return a PATH with the tools of the recorded commands, but without Slurm."""
    (folder / "tools").mkdir()
    (folder / "tools" / "cat").symlink_to("/bin/cat")
    return folder / "tools"
