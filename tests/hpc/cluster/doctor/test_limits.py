"""Limits on a user's jobs, in output of Slurm 22.05 with invented numbers."""

from pathlib import Path

import pytest

from hpc.cluster.schedulers.slurm.commands import configuration
from hpc.cluster.schedulers.slurm.login_node import limits, shown
from hpc.cluster.site.profile import LimitSettings
from tests.hpc.cluster.conftest import Record

CONFIG = """\
AccountingStorageEnforce = associations,limits,qos
AccountingStorageType   = accounting_storage/slurmdbd
MaxArraySize            = 20
"""
PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A \
DefaultTime=01:00:00 MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 Nodes=n[1-4] State=UP TotalCPUs=16 TotalNodes=4
PartitionName=brief AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A \
DefaultTime=NONE MaxNodes=1 MaxTime=01:10:00 MinNodes=0 Nodes=n[1-4] State=UP TotalCPUs=16 TotalNodes=4
"""
USER = "fgacc|fgacc|||2|1|\nfgacc|root||tiny|9|9|\n"
QUALITIES = {"normal": "||\n", "normal,tiny": "||\n3|1|00:10:00\n", "tiny": "3|1|00:10:00\n"}


@pytest.fixture
def record_limits(record: Record, tmp_path: Path) -> Record:
    def record_limits(quality: str = "normal", config: str = CONFIG) -> None:
        record("scontrol", config)
        record("sacctmgr", QUALITIES[quality])
        folder = tmp_path / "recorded"
        (folder / "partitions").write_text(PARTITIONS)
        (folder / "user").write_text(USER)
        for command, word, file in (("scontrol", "partition", "partitions"), ("sacctmgr", "user", "user")):
            script = folder / command
            of_word = f'case " $* " in *" {word} "*) cat {folder}/{file}; exit 0;; esac\n'
            script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{of_word}"))

    return record_limits


def limits_of(number: int, account: str | None = None) -> LimitSettings:
    """Return the limits in the first or second partition."""
    return limits(configuration(), shown("partition")[number], account)


def test_limits_of_the_default_account(record_limits: Record) -> None:
    record_limits()
    found = limits_of(0)
    assert (found.submitted, found.running, found.array_index) == (2, 1, 19)
    assert (found.nodes, found.longest_walltime_min) == (None, None)


def test_the_tightest_of_several_limits_counts(record_limits: Record) -> None:
    record_limits("normal,tiny")
    found = limits_of(1, "root")
    assert (found.submitted, found.running, found.nodes, found.longest_walltime_min) == (3, 1, 1, 10)
    record_limits()
    assert limits_of(1).longest_walltime_min == 70


def test_limits_that_slurm_does_not_enforce_are_none(record_limits: Record) -> None:
    record_limits(config=CONFIG.replace("associations,limits,qos", "none"))
    found = limits_of(0)
    assert (found.submitted, found.running, found.array_index) == (None, None, 19)
