"""Commands on a login node, with a fake Slurm: submit, status, sync, cancel, retry, logs."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from fgssl.__main__ import invoke, main
from fgssl.errors import UserError
from fgssl.store.run_folder import RunFolder
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import JobStore, Launch
from hpc.cluster.schedulers.scheduler import JobFact
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.status import ClusterState
from hpc.cluster.sync import observe_sweep
from tests.hpc.fake_slurm.cluster import FakeSlurm
from tests.hpc.results import write_results

PROFILE = Path(__file__).parents[3] / "slurm" / "generic.yaml"
ON_CPU = "settings.resources.device=cpu"
RUNS = 10


@pytest.fixture
def submit(sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm) -> Callable[..., int]:
    """Return a function that runs `fgssl sweep small.yaml --cluster generic.yaml ... --out OUT`."""

    def run(*arguments: str) -> int:
        given = [str(sweep_file), ON_CPU, *arguments, "--cluster", str(PROFILE), "--out", str(tmp_path / "out")]
        return invoke(["sweep", *given])

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def complete(out: Path, *names: str) -> None:
    """Write the results that the jobs of these runs would have written."""
    for run in cluster_sweep.read(out).runs:
        if run.run in names:
            write_results(out / "runs" / run.run, run.results)


def ordered_for(out: Path, run: str) -> list[str]:
    """Return the ids of all jobs of a run, in order of submission."""
    found = [
        (element.submissions[element.runs.index(run)], order.job_id_of(number) or "")
        for order in JobStore(out).orders()
        for number, element in enumerate(order.elements)
        if run in element.runs
    ]
    assert [number for number, _ in sorted(found)] == list(range(1, len(found) + 1))
    return [job_id for _, job_id in sorted(found)]


def jobs(fake_slurm: FakeSlurm) -> dict[str, str]:
    return {job_id: job["state"] for job_id, job in fake_slurm.jobs().items()}


def test_a_sweep_is_submitted_needs_first_and_once(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit() == 0
    printed = capsys.readouterr()
    assert f"{RUNS} runs: {RUNS} pending" in printed.out
    assert printed.err.splitlines()[-1] == f"next: fgssl status {out}  # show the state of each run"
    assert set(jobs(fake_slurm).values()) == {"PENDING"}
    assert len(jobs(fake_slurm)) == RUNS
    assert fake_slurm.startable() == ["1_0", "1_1"]  # pretrain of both seeds; all others need one
    assert submit() == 0
    assert len(jobs(fake_slurm)) == RUNS


def test_the_scripts_say_all_that_a_users_variables_could(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "somebody-elses")
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    assert submit("cluster.account=mine", "jobs.default.walltime_min=30") == 0
    script = next((out / "cluster" / "orders").glob("*.sh")).read_text()
    for line in ("--account=mine", "--requeue", "--time=30", "--open-mode=append", "--signal=USR2@180"):
        assert f"#SBATCH {line}\n" in script
    assert "wckey" not in script
    srun = next(line for line in script.splitlines() if line.startswith("srun"))
    assert "--cpus-per-task=1 --kill-on-bad-exit=1" in srun
    assert srun.count("--output") == script.count("#SBATCH --output") == 1
    assert re.search(r"#SBATCH --output=(\S+)", script)[1] in srun  # type: ignore[index]
    assert {job["options"]["account"] for job in fake_slurm.jobs().values()} == {"mine"}
    assert all(job["requeue"] for job in fake_slurm.jobs().values())


def test_variables_of_the_job_or_launcher_that_submits_are_not_passed_on(
    submit: Callable[..., int], fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_others = ["SLURM_RESTART_COUNT", "SRUN_DEBUG", "SUBMITIT_EXECUTOR", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"]
    of_others += ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_FSDP", "PMIX_RANK"]
    of_others += ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "PALS_RANKID", "MPI_LOCALNRANKS"]
    of_the_site = {"LOCAL_SCRATCH": "/scratch", "RANKING": "high", "MASTER_PLAN": "none", "SLURM_CONF": "/etc/conf"}
    of_the_site["OMPI_MCA_btl"] = "^openib"
    for name, value in {**dict.fromkeys(of_others, "1"), **of_the_site}.items():
        monkeypatch.setenv(name, value)
    assert submit() == 0
    passed_on = fake_slurm.submitted_with("1_0")
    assert passed_on.keys().isdisjoint(of_others)
    assert passed_on.items() >= of_the_site.items()


def test_a_dry_run_prints_the_scripts_and_writes_nothing(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.count("#!/bin/bash") == len(re.findall("^srun ", printed, re.MULTILINE)) == 5
    assert "--dependency='afterok:<job of pretrain, seed 0>'" in printed
    assert not out.exists()
    assert fake_slurm.calls() == []


def test_a_dry_run_needs_neither_slurm_nor_weights(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(out.parent)
    smoke = Path(__file__).parents[3] / "sweeps" / "smoke.yaml"
    assert invoke(["sweep", str(smoke), "--cluster", "generic", "--dry-run", "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("#!/bin/bash") == 3
    assert list(out.parent.iterdir()) == []


def test_what_each_kind_of_job_asks_for_is_shown(
    submit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--dry-run", "jobs.pretrain.walltime_min=30", "jobs.default.partition=main") == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(
        "  each job requests (jobs.default.KEY=VALUE changes it, jobs.NAME.KEY=VALUE for these runs only)"
    )
    assert lines[first + 1 : first + 3] == [
        "    pretrain: 1 node x 1 task (default), 1 core per node, 30 min, partition main",
        "    decoder, base, grad_cam: 1 node x 1 task (default), 1 core per node, 240 min (default), partition main",
    ]


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_pack_that_is_not_full_asks_for_what_it_has(
    seeds: int, submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm
) -> None:
    assert submit("jobs.default.runs_per_job=3", f"seeds={list(range(seeds))}") == 0
    (pretrain,) = JobStore(out).orders()[0].elements
    assert len(pretrain.runs) == seeds
    assert fake_slurm.job("1")["options"]["ntasks-per-node"] == str(seeds)


def test_status_is_true_and_writes_nothing(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    submit()
    pretrain = cluster_sweep.read(out).runs[0]
    fake_slurm.start("1_0", "n7")
    (out / "runs" / pretrain.run).mkdir(parents=True)
    progress = {"step": 20, "total_steps": 100, "images_per_s": 32.0, "loss": 1.0, "updated": time.time()}
    (out / "runs" / pretrain.run / "progress.json").write_text(json.dumps(progress))
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    capsys.readouterr()
    assert invoke(["status", str(out)]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "RUNNING" in line]
    batch = pretrain.configs[0]["training"]["global_batch_size"]
    minutes, seconds = divmod(80 * batch // 32, 60)
    assert line.split() == ["pretrain,", "seed", "0", "RUNNING", "1_0", "1", "n7", "20/100", f"{minutes}:{seconds:02}"]
    assert f"{RUNS} runs: {RUNS - 1} pending, 1 running" in printed
    assert "next:" not in printed
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_a_silent_scheduler_is_said(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    submit()
    fake_slurm.configure(controller="away")
    assert invoke(["status", str(out)]) == 0
    captured = capsys.readouterr()
    assert "Unable to contact slurm controller" in captured.err
    assert f"{RUNS} pending" in captured.out
    assert invoke(["sync", str(out)]) == 1
    with pytest.raises(UserError, match="nothing was changed"):
        invoke(["retry", str(out)])
    fake_slurm.configure(controller="")
    assert len(jobs(fake_slurm)) == RUNS


def test_what_a_node_lost_is_ordered_again(submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm) -> None:
    submit()
    fake_slurm.start("1_0", "n7")
    fake_slurm.finish("1_0", "NODE_FAIL")
    assert invoke(["sync", str(out)]) == 0
    again = ordered_for(out, cluster_sweep.read(out).runs[0].run)
    assert [jobs(fake_slurm)[job_id] for job_id in again] == ["NODE_FAIL", "PENDING"]


def test_a_fault_is_shown_and_not_tried_again_until_it_is_wanted(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    submit()
    run = cluster_sweep.read(out).runs[0]
    fake_slurm.start("1_0", "n7")
    order = JobStore(out).orders()[0]
    began = time.time()
    JobStore(out).write_launch(Launch(order.token, 0, 0, 0, began, began + 9000, "n7", 0, began + 1, exit_code=1))
    folder = RunFolder(out / "runs" / run.run)
    folder.path.mkdir(parents=True)
    (folder.path / "failure.txt").write_text("Traceback\nValueError: the sigma is wrong\n")
    JobStore(out).log(order.token, 0).write_text("a line of the log\n")
    fake_slurm.finish("1_0", "FAILED", exit_code=1)
    before = len(jobs(fake_slurm))
    invoke(["sync", str(out)])
    assert len(jobs(fake_slurm)) == before
    capsys.readouterr()
    assert invoke(["logs", str(out)]) == 0
    printed, error = capsys.readouterr()
    assert error == f"next: fgssl retry {out}  # submit them again, once the cause is removed\n"
    assert "ValueError: the sigma is wrong" in printed
    assert "a line of the log" in printed
    log = JobStore(out).log(order.token, 0)
    assert f"---- submission 1: job 1_0 of order {order.token}, the end of {log}\n" in printed
    assert invoke(["retry", str(out), "pretrain, seed 0"]) == 0
    assert [jobs(fake_slurm)[job_id] for job_id in ordered_for(out, run.run)] == ["FAILED", "PENDING"]


def test_canceled_runs_leave_the_queue_and_stay_out(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    submit()
    capsys.readouterr()
    assert invoke(["cancel", str(out), "grad_cam"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "4 runs canceled\n"
    assert captured.err == f"next: fgssl retry {out} grad_cam  # take that back\n"
    assert sorted(jobs(fake_slurm).values()).count("CANCELLED") == 4
    invoke(["sync", str(out)])
    assert "4 canceled" in capsys.readouterr().out
    assert invoke(["retry", str(out), "grad_cam"]) == 0
    assert "10 pending" in capsys.readouterr().out
    with pytest.raises(UserError, match="no run of sweep small has the whole words 'gradcam' in its label"):
        invoke(["cancel", str(out), "gradcam"])


def test_a_cancel_where_there_is_no_scheduler_changes_nothing(
    submit: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no scancel on PATH: nothing was changed"):
        invoke(["cancel", str(out)])
    assert not JobStore(out).user_requests().canceled


@pytest.mark.slow
def test_five_hundred_points_are_fed_statused_and_canceled(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    sigmas = [round(0.001 * number, 3) for number in range(1, 251)]
    fake_slurm.configure(max_submitted=200, max_array_size=64)
    limits = ("cluster.limits.submitted=200", "cluster.limits.array_index=63")
    assert submit(f"arms.grad_cam.grid.method.noise.sigma_grad_cam={sigmas}", *limits) == 0
    runs = cluster_sweep.read(out).runs
    assert len(runs) == 506
    assert len(jobs(fake_slurm)) == 200
    assert max(len(order.elements) for order in JobStore(out).orders()) <= 64
    started = fake_slurm.start_all()
    for order in JobStore(out).orders():
        for number, element in enumerate(order.elements):
            if order.job_id_of(number) in started:
                complete(out, *element.runs)
    for job_id in started:
        fake_slurm.finish(job_id)
    capsys.readouterr()
    asked = len(fake_slurm.calls())
    assert invoke(["status", str(out)]) == 0
    assert len(fake_slurm.calls()) - asked <= 3  # however many the runs
    assert f"{len(started)} done" in capsys.readouterr().out
    assert invoke(["cancel", str(out)]) == 0
    assert f"{506 - len(started)} runs canceled" in capsys.readouterr().out
    assert {state for state in jobs(fake_slurm).values()} == {"COMPLETED", "CANCELLED"}


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("command", ["sync", "cancel", "retry", "logs"])
def test_a_folder_that_was_never_submitted(command: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no sweep \(plan.json is missing\): give the output folder"):
        invoke([command, str(tmp_path)])


def test_a_missing_folder_and_a_sweep_of_this_machine(tmp_path: Path) -> None:
    for command in ("sync", "status", "aggregate"):
        with pytest.raises(UserError, match=r"none: no such folder: .* holds nothing; give the output folder"):
            invoke([command, str(tmp_path / "none")])
    (tmp_path / "plan.json").touch()
    with pytest.raises(UserError, match="this sweep was not submitted to a cluster: `fgssl status` shows it"):
        invoke(["sync", str(tmp_path)])


def test_a_sweep_that_another_version_submitted(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "sweep.json").write_text('{"schema": 1}')
    with pytest.raises(UserError, match=r"sweep.json: .*schema is 1, .* reads 2.*submit the sweep again"):
        invoke(["status", str(tmp_path)])


def test_a_scheduler_that_nobody_knows(submit: Callable[..., int], out: Path) -> None:
    submit()
    file = out / "cluster" / "sweep.json"
    file.write_text(file.read_text().replace('"scheduler": "slurm"', '"scheduler": "slrum"'))
    with pytest.raises(UserError, match=r"sweep.json: .*did you mean 'slurm'"):
        invoke(["status", str(out)])


def test_a_run_that_left_the_sweep_has_no_log(
    submit: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    seen = observe_sweep(out)
    monkeypatch.setattr("fgssl.commands.logs.observe_sweep", lambda _: replace(seen, runs={}))
    assert invoke(["logs", str(out), "pretrain"]) == 0


@pytest.mark.parametrize("arguments", [("logs", "--lines", "-1"), ("sync", "--every", "-1")])
def test_numbers_out_of_range(
    arguments: tuple[str, ...], submit: Callable[..., int], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit()
    assert main([arguments[0], str(out), *arguments[1:]]) == 2
    assert "is not in the range" in capsys.readouterr().err


def test_status_needs_no_torch_and_no_doctor(submit: Callable[..., int], out: Path) -> None:
    submit()
    code = (
        "import sys\nfrom fgssl.__main__ import main\nassert main(sys.argv[1:]) == 0\n"
        "assert not any(name == 'torch' or '.doctor' in name for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "status", str(out)], check=True, capture_output=True)


def test_what_a_job_left_is_read_after_its_end_is_seen(
    submit: Callable[..., int], out: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read before, a text that the job left in between would be missed, and its run be tried once more."""
    assert submit() == 0
    job_id = fake_slurm.start_all()[0]
    array, _, element = job_id.partition("_")
    (order,) = [order for order in JobStore(out).orders() if order.job_id == array]
    fake_slurm.finish(job_id, "FAILED", exit_code=74)
    facts = Slurm.facts

    def late(slurm: Slurm, job_ids: Collection[str]) -> dict[str, JobFact]:
        JobStore(out).start_file(order.token, element).write_text("no such venv", encoding="utf-8")
        return facts(slurm, job_ids)

    monkeypatch.setattr(Slurm, "facts", late)
    status = observe_sweep(out).runs[order.elements[int(element)].runs[0]]
    assert (status.state, status.reason) == (ClusterState.FAILED, "no such venv")
