"""Login node whose Slurm commands print output that was recorded from Slurm 22.05 and shortened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.cluster.doctor.diagnosis import Diagnosis
from hpc.cluster.schedulers.slurm.login_node import examine

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
    """Slurm whose commands print recorded output."""

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
        """Set the output of `scontrol show WHAT`."""
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
        examine(diagnosis)
        return diagnosis

    return look_there
