"""What a login node says: Slurm's real words, recorded from Slurm 22.05 and cut short, beside a profile."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.errors import UserError
from hpc.cluster.doctor import self_test
from hpc.cluster.doctor.diagnosis import Diagnosis, Verdict
from hpc.cluster.doctor.self_test import self_test_request
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.schedulers.slurm.login_node import examine
from hpc.cluster.schedulers.slurm.script import gpu_flag
from hpc.cluster.site.profile_files import load_profile
from tests.hpc.fake_slurm.cluster import FakeSlurm

GENERIC = Path(__file__).parents[4] / "slurm" / "generic.yaml"
CONFIGURATION = """\
Configuration data as of 1795279070
AccountingStorageEnforce = associations,limits,qos
ClusterName             = tests
JobRequeue              = 1
KillWait                = 5 sec
MaxArraySize            = 1001
PreemptMode             = REQUEUE
PreemptParameters       = (null)
PreemptType             = preempt/partition_prio
SlurmctldParameters     = preempt_send_user_signal
SLURM_VERSION           = 22.05.8
TaskPlugin              = task/none

Slurmctld(primary) at head is UP
"""
PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default={default} QoS=N/A "
    "DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime={grace_s} Hidden=NO MaxNodes={nodes} "
    "MaxTime={time} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-4] PriorityJobFactor=1 PriorityTier={tier} "
    "RootOnly=NO ReqResv=NO OverSubscribe={sharing} OverTimeLimit=NONE PreemptMode={preemption} State={state} "
    "TotalCPUs=16 TotalNodes=4 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED\n"
)
NODE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket={cores} CPUAlloc=0 CPUEfctv={cpus_for_jobs} CPUTot={cpus} CPULoad=1.20 "
    "AvailableFeatures=(null) ActiveFeatures=(null) Gres={gres} NodeAddr=127.0.0.1 NodeHostName={name} Port=26102 "
    "Version=22.05.8 OS=Linux 6.18.44-fc-v657 #1 SMP PREEMPT_DYNAMIC @0  RealMemory={memory_mb} AllocMem=0 "
    "FreeMem=16854 Sockets=2 Boards=1 State=IDLE ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A "
    "Partitions={partitions}  BootTime=1795228448 SlurmdStartTime=1795279061 LastBusyTime=1795279061\n"
)
NO_ACCOUNTING = (
    "You are not running a supported accounting_storage plugin\nOnly 'accounting_storage/slurmdbd' is supported.\n"
)
Look = Callable[..., Diagnosis]


def partition(name: str, **words: str) -> str:
    usual = {"default": "NO", "grace_s": "0", "nodes": "UNLIMITED", "time": "2-00:00:00", "tier": "1"}
    usual |= {"sharing": "NO", "preemption": "OFF", "state": "UP"}
    return PARTITION.format(name=name, **usual | words)


def node(name: str, **words: str) -> str:
    usual = {"cores": "32", "cpus": "64", "cpus_for_jobs": "64", "memory_mb": "512000", "gres": "gpu:a100:4(S:0-1)"}
    return NODE.format(name=name, **usual | {"partitions": "gpu"} | words)


class Recorded:
    """A Slurm whose commands answer with what is written here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for command in ("sbatch", "squeue", "scancel", "sacct"):
            self._command(command, "exit 1")
        self._command("scontrol", f'for last; do :; done; cat "{folder}/$last"')
        self.says("config", CONFIGURATION)
        self.says("partition", partition("gpu", default="YES"))
        self.says("node", node("n1") + node("n2"))
        self.accounts("project|normal,long\n")

    def _command(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def says(self, what: str, words: str) -> None:
        """To `scontrol show WHAT`."""
        (self.folder / what).write_text(words)

    def accounts(self, words: str, limits: str = "project|project||normal|500|20|", error: str = "") -> None:
        fail = f"printf %s {error!r} >&2; exit 1" if error else ""
        choice = (
            f"case \"$*\" in *' qos '*) echo '||' ;; *Account,QOS) printf %s '{words}' ;; *) echo '{limits}' ;; esac"
        )
        self._command("sacctmgr", fail or choice)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    for name in os.environ:
        if name.startswith(("SLURM_", "SBATCH_")):
            monkeypatch.delenv(name)
    commands = Recorded(tmp_path / "recorded")
    monkeypatch.setenv("PATH", f"{commands.folder}{os.pathsep}{os.environ['PATH']}")
    return commands


@pytest.fixture
def looked(recorded: Recorded) -> Look:
    def look_there(file: Path = GENERIC, *overrides: str) -> Diagnosis:
        diagnosis = Diagnosis(file, overrides)
        examine(diagnosis, Slurm())
        return diagnosis

    return look_there


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
    """What the recorded commands need, and no Slurm."""
    (folder / "tools").mkdir()
    (folder / "tools" / "cat").symlink_to("/bin/cat")
    return folder / "tools"


# ------------------------------------------------------------------------------------------- the command


def test_no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no scontrol on PATH: Slurm's commands are needed"):
        invoke(["doctor", "--dry-run"])


def test_dry_run(recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=2", "#SBATCH --cpus-per-task=16", "#SBATCH --requeue"):
        assert line in printed.splitlines()
    assert "-m hpc.cluster.doctor.node_checks" in printed
    assert "per_node: 4" in printed
    assert not (tmp_path / "out").exists()


def test_impossible_job(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """What the login node said is told all the same."""
    recorded.says("partition", partition("gpu", default="YES", time="00:05:00"))
    assert invoke(["doctor", "--dry-run"]) == 1
    printed = capsys.readouterr().out
    assert "warning  self-test: there was none" in printed
    assert "13 is over the 5 of one job" in printed
    assert "longest_walltime_min: 5" in printed


@pytest.fixture
def cluster(fake_slurm: FakeSlurm, recorded: Recorded) -> FakeSlurm:
    """It takes jobs; the cluster's own words are the recorded ones."""
    for command in ("sbatch", "squeue", "scancel", "sacct"):
        (recorded.folder / command).unlink()
    return fake_slurm


def test_refused_job(cluster: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.configure(accounts=["another"])
    assert invoke(["doctor", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "warning  self-test: there was none: " in printed
    assert "Invalid account or account/partition combination specified" in printed
    assert load_profile(tmp_path / "out" / "generic.yaml").node.cores == 64


def test_job_that_does_not_start_is_canceled(
    cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(self_test, "_IN_QUEUE_S", 1.0)
    monkeypatch.setattr(self_test, "_POLL_S", 0.2)
    assert invoke(["doctor", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "0 of 4 processes did their checks; the job was PENDING" in printed
    assert "unknown  scontrol requeue" in printed
    assert [job["state"] for job in cluster.jobs().values()] == ["CANCELLED"]


def test_interrupted_doctor_leaves_no_job(cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(self_test, "_POLL_S", 0.1)
    monkeypatch.setattr(Slurm, "facts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        invoke(["doctor", "--out", str(tmp_path / "out")])
    assert [job["state"] for job in cluster.jobs().values()] == ["CANCELLED"]


def test_folder_that_cannot_be_made(cluster: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match=r"cannot be made: .*: choose another --out"):
        invoke(["doctor", "--out", str(tmp_path / "out")])
    assert cluster.jobs() == {}
