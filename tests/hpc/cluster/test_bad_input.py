"""Wrong input to `fgssl sweep SWEEP --cluster PROFILE`, and all of its error messages."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgssl.__main__ import main
from tests.hpc.fake_slurm.cluster import FakeSlurm

ROOT = Path(__file__).parents[3]
CLUSTERS = (
    "choose one of fir, generic, karolina, lumi_g, narval, nibi, rorqual, trillium, or give the path of your own "
    "profile"
)
GOES_ON = "a longer run continues in further jobs automatically"
MINUTES = "must be a number of minutes, e.g. 240 for four hours"
KARO, LUMI = ("--cluster", "karolina"), ("--cluster", "lumi_g", "cluster.environment.container=/project/fgssl.sif")
MINE, OURS = "cluster.account=OPEN-12-34", "cluster.account=project_465000001"

Command = Callable[..., list[str]]
"""Function that returns the lines of a command's error message."""


@pytest.fixture
def command(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs `fgssl sweep small.yaml ... --out OUT`, which must fail and write nothing."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> list[str]:
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
        assert main(["sweep", str(sweep_file), *arguments, *out]) == 2
        assert not (tmp_path / "out").exists()
        first, *more = capfd.readouterr().err.replace(str(tmp_path), "TMP").splitlines()
        return [first.removeprefix("error: "), *more]

    return run


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            ["--cluster", "karolna"],
            [f"command line: --cluster: unknown cluster karolna (did you mean karolina?); {CLUSTERS}"],
            id="unknown cluster",
        ),
        pytest.param(
            ["--cluster", "slurm/karolna.yaml"],
            [f"command line: --cluster: no file slurm/karolna.yaml (did you mean karolina?); {CLUSTERS}"],
            id="no such profile",
        ),
        pytest.param(
            [*KARO],
            [
                "slurm/karolina.yaml: account: is missing, but karolina requires one: give cluster.account=OPEN-12-34 "
                "on the command line, or set account in a copy of this file"
            ],
            id="no account where one is mandatory",
        ),
        pytest.param(
            [*KARO, OURS],
            [
                "command line: cluster.account: 'project_465000001' is not allowed: accounts of karolina are like "
                "OPEN-12-34 (slurm/karolina.yaml: accounts.pattern)"
            ],
            id="an account of another site",
        ),
        pytest.param(
            [*LUMI, OURS, "jobs.default.processes_per_node=4", "jobs.default.cores_per_process=15"],
            [
                "command line: jobs.default.cores_per_process: 4 x 15 cores on a node are 60, but jobs can use 56 of "
                "its 64 (slurm/lumi_g.yaml: node.usable_cores): must be at most 14"
            ],
            id="more than 56 cores of a LUMI-G node",
        ),
        pytest.param(
            ["--cluster", "trillium", "jobs.base.processes_per_node=2"],
            [
                "command line: jobs.base.processes_per_node: 2 processes need 2 GPUs on a node, but must be 1 or 4 "
                "(slurm/trillium.yaml: gpu.counts)"
            ],
            id="2 GPUs where 1 or 4 are given",
        ),
        pytest.param(
            [*LUMI, OURS, "jobs.pretrain.partition=dev-g", "jobs.pretrain.walltime_min=181"],
            [
                "command line: jobs.pretrain.walltime_min: 181 must not exceed 180 for one job (slurm/lumi_g.yaml: "
                f"partitions.dev-g.limits.longest_walltime_min): {GOES_ON}"
            ],
            id="a walltime over the partition's",
        ),
        pytest.param(
            [*LUMI, OURS, "jobs.default.partition=dev-g"],
            [
                "TMP/small.yaml: jobs.default.walltime_min: by default 240 must not exceed 180 for one job "
                f"(slurm/lumi_g.yaml: partitions.dev-g.limits.longest_walltime_min): {GOES_ON}"
            ],
            id="the default walltime over the partition's",
        ),
        pytest.param(
            [*KARO, MINE, "cluster.node.coers=128"],
            [
                "command line: cluster.node.coers: unknown key 'coers': did you mean 'cores'? allowed: billing, cores, "
                "memory_gb, usable_cores"
            ],
            id="a misspelt key of the profile",
        ),
        pytest.param(
            [*KARO, MINE, "jobs.default.walltime=60"],
            [
                "command line: jobs.default.walltime: unknown key 'walltime': did you mean 'walltime_min'? allowed: "
                "account, cores_per_process, memory_gb_per_node, nodes, options, partition, processes_per_node, qos, "
                "runs_per_gpu, runs_per_job, walltime_min"
            ],
            id="a misspelt key of a job",
        ),
        pytest.param(
            [*KARO, MINE, "jobs.pretrian.nodes=2"],
            [
                "command line: jobs.pretrian: unknown stage or arm 'pretrian': did you mean 'pretrain'? allowed: "
                "default, pretrain, decoder, base, grad_cam"
            ],
            id="jobs of an unknown stage",
        ),
        pytest.param(
            [*KARO, MINE, "retries.timeout=9"],
            [
                "command line: retries.timeout: unknown key 'timeout': did you mean 'timeouts'? allowed: memory, "
                "node_failures, preemptions, timeouts"
            ],
            id="a misspelt key of the retries",
        ),
        pytest.param(
            [*KARO, MINE, "jobs.default.walltime_min=4:00:00"],
            [f"command line: jobs.default.walltime_min: '4:00:00' is not allowed: {MINUTES}"],
            id="a walltime in hours",
        ),
        pytest.param(
            [*KARO, MINE, "jobs.default.runs_per_job=99"],
            [
                "command line: jobs.default.runs_per_job: 99 runs need 99 GPUs on a node, but it has 8 "
                "(slurm/karolina.yaml: gpu.per_node): share GPUs (runs_per_gpu), or pack fewer runs"
            ],
            id="too many runs, and nothing of the cores that follow",
        ),
        pytest.param(
            [
                *(*KARO, "cluster.gpu.vendor=x", "cluster.requeue=maybe", "--jobs", "2"),
                *("jobs.default.nodes=0", "jobs.base.qos=1", "jobs.pretrain.walltime_min=3000"),
            ],
            [
                "command line: --jobs 2: is for runs on this machine; a cluster decides how many jobs run at a time: "
                "remove --jobs",
                "command line: cluster.gpu.vendor: 'x' is not allowed: input should be 'cuda' or 'rocm'",
                "command line: cluster.requeue: 'maybe' is not allowed: input should be 'allowed', 'forbidden' or "
                "'unknown'",
                "command line: jobs.default.nodes: 0 is not allowed: input should be greater than 0",
                "command line: jobs.base.qos: 1 is not allowed: YAML does not read it as a string; put it in "
                "quotes, for a shell in both kinds: '\"...\"'",
                "slurm/karolina.yaml: account: is missing, but karolina requires one: give cluster.account=OPEN-12-34 "
                "on the command line, or set account in a copy of this file",
                "command line: jobs.pretrain.walltime_min: 3000 must not exceed 2880 for one job (slurm/karolina.yaml: "
                f"partitions.qgpu.limits.longest_walltime_min, unverified): {GOES_ON}",
            ],
            id="all at once: of options, the profile, the jobs and the site",
        ),
        pytest.param(
            ["--cluster", "karolna", "seeds=x", "retries.timeouts=-1"],
            [
                f"command line: --cluster: unknown cluster karolna (did you mean karolina?); {CLUSTERS}",
                "command line: seeds: 'x' is not allowed: give a list, e.g. [x]",
                "command line: retries.timeouts: -1 is not allowed: input should be greater than or equal to 0",
            ],
            id="all at once: of the cluster and the sweep",
        ),
        pytest.param(
            ["cluster.account=x", "--wait"],
            [
                "command line: cluster.account: belongs to a cluster's profile: add --cluster NAME, or remove this "
                "setting",
                "command line: --wait: is for the jobs of a cluster: add --cluster NAME, or remove --wait (runs here "
                "are waited for)",
            ],
            id="words for a cluster, but none",
        ),
        pytest.param(
            ["--cluster", "generic", "--wait", "--dry-run"],
            ["command line: --wait: there is nothing to wait for with --dry-run: remove one of them"],
            id="waiting for a dry run",
        ),
        pytest.param(
            [*KARO, MINE, "--wait", "--jobs", "2", "--dry-run"],
            [
                "command line: --jobs 2: is for runs on this machine; a cluster decides how many jobs run at a time: "
                "remove --jobs",
                "command line: --wait: there is nothing to wait for with --dry-run: remove one of them",
            ],
            id="each option that does not fit",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_else(
    arguments: list[str], lines: list[str], command: Command, fake_slurm: FakeSlurm
) -> None:
    assert command(*arguments) == lines
    assert fake_slurm.calls() == []


def test_faults_of_a_profile_of_ones_own(command: Command, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "site: here\npartitons: {}\ngpu: {per_nodes: 4, type: a100}\nlimits: {longest_walltime_min: 48:00:00}\n"
    )
    assert command("--cluster", str(mine), "jobs.default.walltime_min=2") == [
        "TMP/mine.yaml:2: partitons: unknown key 'partitons': did you mean 'partitions'? allowed: site, sources, "
        "unverified, scheduler, account, accounts, partitions, partition, cpu_partition, gpu, node, cpu_node, "
        "several_nodes_whole, memory_request, limits, requeue, submit_from_jobs, internet, cpu_bind, "
        "whole_node_cpu_bind, signal_delay_s, storage, environment",
        "TMP/mine.yaml:3: gpu.per_nodes: unknown key 'per_nodes': did you mean 'per_node'? allowed: cores, counts, "
        "memory_gb, option, per_node, type, vendor",
        f"TMP/mine.yaml:4: limits.longest_walltime_min: '48:00:00' is not allowed: {MINUTES}",
        "command line: jobs.default.walltime_min: 2 min leave no time for work, since jobs stop 180 s before the end "
        "(TMP/mine.yaml: signal_delay_s)",
    ]


def test_a_clock_in_the_sweeps_file(command: Command, fake_slurm: FakeSlurm, sweep_file: Path) -> None:
    before = sweep_file.read_text()
    sweep_file.write_text(before + "jobs: {default: {walltime_min: 4:00:00}}\n")
    line = before.count("\n") + 1
    assert command("--cluster", "generic") == [
        f"TMP/small.yaml:{line}: jobs.default.walltime_min: '4:00:00' is not allowed: {MINUTES}"
    ]


def test_a_fault_of_a_preset_is_told_there(command: Command, fake_slurm: FakeSlurm, sweep_file: Path) -> None:
    before = sweep_file.read_text()
    presets = "preset: long\npresets:\n  long:\n    jobs:\n      base: {walltime_min: 2}\n      pretrain: {nods: 2}\n"
    sweep_file.write_text(before + presets)
    last = before.count("\n") + presets.count("\n")
    unknown, short = command("--cluster", "generic")
    assert unknown.startswith(
        f"TMP/small.yaml:{last}: presets.long.jobs.pretrain.nods: unknown key 'nods': did you mean 'nodes'?"
    )
    assert short.startswith(
        f"TMP/small.yaml:{last - 1}: presets.long.jobs.base.walltime_min: 2 min leave no time for work"
    )


def test_no_sbatch_on_path(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert command("--cluster", "generic") == [
        "no sbatch on PATH: submit from a login node, or omit --cluster to run on this machine"
    ]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a file system that is mounted read-only."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        (pytest.fail if "CI" in os.environ else pytest.skip)(mounted.stderr.strip())
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["a\\b", "a:b", "a\n#SBATCH --hold", "a\tb"])
def test_a_folder_that_a_script_cannot_name(
    name: str, command: Command, fake_slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--cluster", "generic", "settings.resources.device=cpu")
    [line] = command(*asked, "--out", str(tmp_path / name), "--dry-run")
    assert "a backslash, colon or control character is not allowed" in line
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    if "\n" in name:
        assert "is not allowed in the working directory of jobs" in command(*asked)[0]


def test_a_read_only_file_system(command: Command, fake_slurm: FakeSlurm, read_only: Path) -> None:
    assert command("--cluster", "generic", "--out", str(read_only / "a" / "out")) == [
        "--out TMP/read-only/a/out: TMP/read-only is on a read-only file system: choose another --out, to which "
        "jobs can write too"
    ]
    assert fake_slurm.calls() == []
