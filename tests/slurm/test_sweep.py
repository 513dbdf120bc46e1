"""Sweeps on a real Slurm, whose runs train nothing: no job is lost or submitted twice."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.errors import EXIT_OUT_OF_HANDS
from hpc.cluster.job_store import JobStore, Launch
from hpc.cluster.schedulers.slurm import Slurm
from hpc.cluster.status import ClusterState
from tests.slurm.conftest import Cluster
from tests.slurm.small_sweep import RUNS, SIGMA, SWEEP, Swept, freeze_fake_code, swept_in

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return freeze_fake_code(tmp_path_factory.mktemp("code"))


@pytest.fixture
def submitted(tmp_path: Path, slurm: Cluster, code: Path) -> Callable[..., Swept]:
    def make(*overrides: str, profile: tuple[str, ...] = ()) -> Swept:
        return swept_in(tmp_path / "out", slurm, code, SWEEP, *overrides, profile=profile)

    return make


def test_needs_come_first_and_every_run_is_made_once(submitted: Callable[..., Swept]) -> None:
    swept = submitted()
    report = swept.sync()
    assert report.progress.ordered == RUNS
    assert swept.sync().progress.ordered == 0
    swept.until(lambda: swept.states() == Counter(DONE=RUNS))
    swept.check()
    assert swept.logged("executed") == swept.logged("ended")
    assert swept.sync().progress.ordered == 0


def test_a_fault_of_its_own_is_kept_and_stops_only_what_needs_it(submitted: Callable[..., Swept]) -> None:
    swept = submitted()
    decoder = swept.sweep.runs[0].run
    swept.behave("fail", [decoder])
    swept.sync()
    swept.until(lambda: swept.states()["DONE"] == RUNS - 3 and swept.views()[decoder].state is ClusterState.FAILED)
    report = swept.sync()  # takes what waits for it out of the queue
    assert report.progress.ordered == 0
    assert swept.states() == Counter(DONE=RUNS - 3, FAILED=1, SKIPPED=2)
    assert swept.views()[decoder].reason == "RuntimeError: this run fails"
    swept.behave("work", [])
    JobStore(swept.out).retry([decoder])
    swept.until_done()
    swept.check()


def test_what_is_interrupted_goes_on(submitted: Callable[..., Swept]) -> None:
    """By USR2, a requeue, TERM, a killed process: side by side."""
    swept = submitted("seeds=[0,1,2]")
    points = [swept.run(cell, seed) for seed in (0, 1) for cell in ("base", SIGMA)]
    swept.behave("endless", points)
    swept.sync()
    saved = [swept.out / "runs" / run / "checkpoints" / "step-00000040" for run in points]
    swept.until(lambda: all(path.exists() for path in saved))
    views = swept.views()
    jobs = [views[run].job_id or "" for run in points]
    swept.slurm.command("scancel", "--signal=USR2", jobs[0])
    swept.slurm.command("scontrol", "requeue", jobs[1])
    swept.slurm.command("scancel", "--signal=TERM", jobs[2])
    leader = json.loads((swept.out / "runs" / points[3] / "lease").read_text())["pid"]
    swept.slurm.on(views[points[3]].nodes, "kill", "-9", str(leader))
    swept.until(lambda: all(swept.logged("executed")[run] > 1 or swept.sync().progress.ordered for run in points))
    swept.go()
    swept.until_done()
    swept.check()


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["main", "no_grace", "cancel"])
def test_what_is_preempted_goes_on(partition: str, submitted: Callable[..., Swept]) -> None:
    """With 10 s to leave, with none, and where the site cancels what it preempts."""
    swept = submitted(f"jobs.default.partition={partition}", "jobs.decoder.partition=main")
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    swept.sync()
    swept.until((swept.out / "runs" / run / "checkpoints" / "step-00000040").exists)
    _preempt(swept, run)
    swept.until(lambda: swept.logged("executed")[run] > 1 or swept.sync().progress.ordered > 0)
    swept.go()
    swept.until_done(180)
    swept.check()


@pytest.mark.slow
def test_a_sweep_where_there_is_no_database(tmp_path: Path, slurm_without_accounting: Cluster, code: Path) -> None:
    """Preempted, killed, and told to stop, which stays so until somebody says otherwise: the same as with one."""
    swept = swept_in(tmp_path / "out", slurm_without_accounting, code, SWEEP)
    preempted, killed, stopped = (swept.run(*cell) for cell in (("base", 0), ("base", 1), (SIGMA, 0)))
    swept.behave("endless", [preempted, killed, stopped])
    swept.sync()
    saved = [swept.out / "runs" / run / "checkpoints" / "step-00000040" for run in (preempted, killed, stopped)]
    swept.until(lambda: all(path.exists() for path in saved))
    holder = json.loads((swept.out / "runs" / killed / "lease").read_text())
    swept.slurm.on(holder["host"], "kill", "-9", str(holder["pid"]))
    swept.slurm.command("scancel", swept.views()[stopped].job_id or "")
    _preempt(swept, preempted)
    swept.go()
    ended = Counter(DONE=RUNS - 1, CANCELED=1)
    swept.until(lambda: swept.sync().progress.ordered == 0 and swept.states() == ended, 180)
    JobStore(swept.out).retry([stopped])
    swept.until_done()
    swept.check()


def _preempt(swept: Swept, run: str) -> None:
    options = (f"--nodelist={swept.views()[run].nodes}", "--cpus-per-task=4", "--time=1", "--output=/dev/null")
    swept.slurm.submit("sleep 3", "--partition=high", *options)


def test_canceled_runs_stay_so_until_they_are_wanted_again(submitted: Callable[..., Swept]) -> None:
    swept = submitted()
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    swept.sync()
    swept.until(lambda: swept.views()[run].state is ClusterState.RUNNING)
    store = JobStore(swept.out)
    store.cancel([run])
    Slurm().cancel([swept.views()[run].job_id or ""])
    swept.until(lambda: swept.views()[run].state is ClusterState.CANCELED)
    swept.go()
    swept.until(lambda: swept.states() == Counter(DONE=RUNS - 1, CANCELED=1))
    assert swept.sync().progress.ordered == 0
    store.retry([run])
    swept.until_done()
    swept.check()


def test_a_person_who_uses_scancel_has_canceled(submitted: Callable[..., Swept]) -> None:
    swept = submitted()
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    swept.sync()
    swept.until(lambda: swept.views()[run].state is ClusterState.RUNNING)
    Slurm().cancel([swept.views()[run].job_id or ""])
    swept.until(lambda: swept.states() == Counter(DONE=RUNS - 1, CANCELED=1))
    assert swept.sync().progress.ordered == 0


def test_a_submitter_that_is_killed_loses_no_job(submitted: Callable[..., Swept]) -> None:
    """After sbatch, before it noted the job's number; and before sbatch."""
    swept = submitted()
    swept.sync()
    orders = JobStore(swept.out).orders()
    for order in orders:
        JobStore(swept.out).order_file(order.token).with_suffix(".id").unlink()
    assert swept.states()["DONE"] < RUNS
    report = swept.sync()
    assert (report.progress.ordered, len(report.progress.lines)) == (0, len(orders))
    swept.until(lambda: swept.states() == Counter(DONE=RUNS))
    swept.check()


def test_no_more_than_the_site_allows(submitted: Callable[..., Swept]) -> None:
    profile = ("cluster.limits.submitted=3", "cluster.limits.array_tasks=2")
    swept = submitted(profile=profile)
    assert swept.sync().progress.ordered == 3
    assert len(swept.slurm.queue()) == 3
    assert swept.sync().progress.ordered == 0
    swept.until_done()
    assert max(len(order.elements) for order in JobStore(swept.out).orders()) == 2
    swept.check()


@pytest.mark.slow
def test_a_hundred_points_are_fed_statused_and_canceled(submitted: Callable[..., Swept]) -> None:
    sigmas = [round(0.01 * number, 2) for number in range(1, 100)]
    profile = ("cluster.limits.submitted=60", "cluster.limits.array_tasks=25")
    swept = submitted("seeds=[0]", f"arms.grad_cam.grid={{method.noise.sigma_grad_cam: {sigmas}}}", profile=profile)
    assert len(swept.sweep.runs) == 101  # with the baseline and the decoder
    assert swept.sync().progress.ordered == 60
    swept.until(lambda: swept.states()["DONE"] > 10 and swept.sync().progress.ordered > 0)
    queue = swept.slurm.queue()
    over = {view.job_id for view in swept.views().values() if view.state is ClusterState.DONE}
    assert len(queue.keys() - over) <= 60  # Slurm counts no job that is completing either
    assert invoke(["cancel", str(swept.out)]) == 0
    swept.until(lambda: not swept.slurm.queue())
    states = swept.states()
    assert states["DONE"] + states["CANCELED"] == 101
    assert swept.sync().progress.ordered == 0
    assert invoke(["status", str(swept.out), "--done"]) == 0


def test_packed_runs_share_a_job(submitted: Callable[..., Swept]) -> None:
    swept = submitted("jobs.grad_cam.runs_per_job=3")
    swept.sync()
    swept.until(lambda: swept.states() == Counter(DONE=RUNS))
    views = swept.views()
    assert len({views[swept.run(f"grad_cam sigma_grad_cam={sigma}", 0)].job_id for sigma in (0.25, 0.5)}) == 1
    swept.check()


@pytest.mark.slow
def test_a_keeper_goes_on_when_nobody_does(submitted: Callable[..., Swept]) -> None:
    """After a job that was lost, and with a queue that takes a few at a time."""
    swept = submitted(profile=("cluster.submit_from_jobs=allowed", "cluster.limits.submitted=5"))
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    assert swept.sync().progress.ordered == 3
    keeper = swept.slurm.job(JobStore(swept.out).keeper() or "")
    assert keeper["Dependency"].count("afterany:") == 3
    swept.until(lambda: (swept.out / "runs" / run / "lease").exists(), timeout_s=120)
    leader = json.loads((swept.out / "runs" / run / "lease").read_text())["pid"]
    swept.slurm.on(swept.views()[run].nodes, "kill", "-9", str(leader))
    swept.until(lambda: swept.logged("executed")[run] == 2, timeout_s=120)
    swept.go()
    swept.until(lambda: swept.states() == Counter(DONE=RUNS), timeout_s=180)
    swept.check()


@pytest.mark.slow
def test_an_orphan_changes_nothing(submitted: Callable[..., Swept]) -> None:
    """A node's slurmd dies, its job lives on and would write, while Slurm starts the job anew on another node."""
    swept = submitted()
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    swept.sync()
    swept.until(lambda: swept.views()[run].state is ClusterState.RUNNING and swept.views()[run].nodes != "")
    node = swept.views()[run].nodes
    swept.until(lambda: (swept.out / "runs" / run / "checkpoints" / "step-00000040").exists())
    swept.slurm.kill(node)
    swept.until(lambda: swept.logged("executed")[run] == 2, timeout_s=120)
    record = swept.out / "runs" / run / "lease"
    (order,) = [order for order in JobStore(swept.out).orders() if any(run in one.runs for one in order.elements)]
    assert json.loads(record.read_text())["generation"] == list(order.generation(restart=1))
    # The orphan lived, wanted to write, and was refused: what it printed went to its srun, which is dead.
    swept.until(lambda: (order.token, 0, EXIT_OUT_OF_HANDS) in [_ended(one) for one in JobStore(swept.out).launches()])
    swept.go()
    swept.until_done()
    swept.check()


def _ended(launch: Launch) -> tuple[str, int, int | None]:
    return launch.token, launch.restart, launch.exit_code


@pytest.mark.slow
def test_a_run_longer_than_the_time_limit_goes_on_in_the_same_job(submitted: Callable[..., Swept]) -> None:
    swept = submitted(
        "jobs.default={walltime_min: 1, partition: short}",
        profile=("cluster.signal_delay_s=20",),
    )  # fmt: skip
    run = swept.run("base", 0)
    swept.behave("endless", [run])
    swept.sync()
    swept.until(lambda: swept.logged("executed")[run] == 2, timeout_s=240)
    swept.go()
    swept.until_done()
    assert swept.views()[run].submission == 1  # no other job was ordered for it
    swept.check()


@pytest.mark.slow
def test_odd_paths_a_broken_environment_and_a_moved_folder(tmp_path: Path, slurm: Cluster, code: Path) -> None:
    """Patterns of sbatch in --out; a venv that does not exist; an output folder that is renamed before a retry."""
    swept = swept_in(tmp_path / "o%u %j %% it's {task}", slurm, code, SWEEP, "seeds=[0]")
    run = swept.run("base", 0)
    swept.behave("fail", [run])
    swept.sync()
    broken = swept_in(
        tmp_path / "broken", slurm, code, SWEEP, "seeds=[0]", profile=("cluster.environment.venv=/no/such venv",)
    )
    broken.sync()
    broken.until(lambda: not broken.sync().progress.ordered and broken.states() == Counter(FAILED=2, SKIPPED=2))
    failed = [view for view in broken.views().values() if view.state is ClusterState.FAILED]
    assert {(view.submission, view.lost_on) for view in failed} == {(1, ())}
    assert all('source "/no/such venv/bin/activate"' in view.reason for view in failed)
    assert not broken.logged("executed")
    swept.until(lambda: swept.states() == Counter(DONE=3, FAILED=1))
    assert all("restart 0" in log.read_text() for log in (swept.out / "cluster" / "logs").iterdir())
    swept.out = swept.out.rename(tmp_path / "moved")
    swept.behave("work", [])
    JobStore(swept.out).retry([run])
    swept.until_done()
    codes = [record["code"] for record in swept.records("executed") if record["run"] == run]
    assert [Path(code).is_relative_to(swept.out / "code") for code in codes] == [False, True]
    assert {view.lost_on for view in swept.views().values()} == {()}
