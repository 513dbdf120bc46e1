"""Sweeps that another user looks at, or the same user on another cluster with the same file system."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.errors import UserError
from hpc.cluster import cluster_sweep
from hpc.cluster.job_store import JobStore, Launch
from hpc.cluster.schedulers import slurm
from hpc.cluster.status import ClusterState
from hpc.cluster.sync import observe_sweep
from tests.hpc.fake_slurm.cluster import FakeSlurm

PROFILE = Path(__file__).parents[3] / "slurm" / "generic.yaml"
UIDS = {"alice": os.getuid(), "bob": os.getuid() + 1}
Be = Callable[..., None]


@pytest.fixture
def be(fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> Be:
    """Return a function that makes later commands those of a user on a cluster."""

    def become(user: str, cluster: str = "here") -> None:
        # A user sees no jobs of others (PrivateData=jobs), and a cluster none of another.
        monkeypatch.setenv("FAKE_SLURM_USER", f"{user}@{cluster}")
        monkeypatch.setattr(slurm, "user_name", lambda: user)
        monkeypatch.setattr(os, "getuid", lambda: UIDS[user])
        fake_slurm.configure(cluster_name=cluster)

    return become


@pytest.fixture
def submit(sweep_file: Path, tmp_path: Path) -> Callable[[], int]:
    on_cpu = "settings.resources.device=cpu"
    arguments = ["sweep", str(sweep_file), on_cpu, "--cluster", str(PROFILE), "--out", str(tmp_path / "out")]
    return lambda: invoke(arguments)


@pytest.fixture
def out(tmp_path: Path, be: Be, submit: Callable[[], int], fake_slurm: FakeSlurm) -> Path:
    """Return the folder of a sweep of alice: two of its jobs run, and the others wait for them."""
    be("alice")
    assert submit() == 0
    store = JobStore(tmp_path / "out")
    for job_id in fake_slurm.start_all():
        order = next(order for order in store.orders() if order.job_id == job_id.partition("_")[0])
        number = int(job_id.partition("_")[2] or 0)
        now = time.time()
        store.write_launch(Launch(order.token, number, 0, 0, now, now + 3600, "n1", first_step=0))
    return tmp_path / "out"


def contents(out: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in out.rglob("*") if file.is_file() and file.name != "sync.lock"}


OTHERS = [("bob", "here"), ("alice", "there")]


@pytest.mark.parametrize("other", OTHERS)
def test_every_order_says_whose_it_is(other: tuple[str, str], out: Path) -> None:
    (submitter,) = {order.submitter for order in JobStore(out).orders()}
    assert submitter is not None
    assert (submitter.user, submitter.cluster, submitter.controller) == ("alice", "here", "ctl")
    assert cluster_sweep.submitter(out) == submitter


@pytest.mark.parametrize("other", OTHERS)
def test_jobs_that_cannot_be_seen_are_not_lost(
    other: tuple[str, str], out: Path, be: Be, capsys: pytest.CaptureFixture[str]
) -> None:
    be(*other)
    before = contents(out)
    assert invoke(["status", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "10 runs: 10 pending" in printed  # nobody holds a lease here
    assert "submitted by alice on cluster here (ctl), whose jobs cannot be seen from here" in printed
    assert invoke(["logs", str(out)]) == 0
    assert invoke(["aggregate", str(out)]) == 0
    assert {file: content for file, content in contents(out).items() if file.parent != out} == {
        file: content for file, content in before.items() if file.parent != out
    }


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("command", ["sync", "cancel", "retry", "sweep"])
def test_nothing_is_ordered_or_taken_over(
    command: str, other: tuple[str, str], out: Path, be: Be, submit: Callable[[], int], fake_slurm: FakeSlurm
) -> None:
    be(*other)
    before, jobs = contents(out), fake_slurm.jobs()
    words = rf"out: alice on cluster here .* submitted this sweep, and this is {other[0]} on cluster {other[1]}"
    with pytest.raises(UserError, match=words):
        submit() if command == "sweep" else invoke([command, str(out)])
    assert contents(out) == before
    assert fake_slurm.jobs() == jobs


@pytest.mark.parametrize("other", OTHERS)
def test_a_sweep_can_be_taken_over(
    other: tuple[str, str], out: Path, be: Be, fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    be(*other)
    assert invoke(["retry", str(out), "seed 1", "--take-over"]) == 2
    assert "--take-over takes the whole sweep: leave out RUN" in capsys.readouterr().err
    assert invoke(["retry", str(out), "--take-over"]) == 0
    assert "10 jobs ordered" in capsys.readouterr().out
    assert {job["user"] for job in fake_slurm.jobs().values()} == {"alice@here", f"{other[0]}@{other[1]}"}
    be("alice")
    with pytest.raises(UserError, match=f"{other[0]} on cluster {other[1]} .* submitted this sweep"):
        invoke(["sync", str(out)])


def test_a_failure_that_a_job_recorded_is_seen_from_elsewhere(out: Path, be: Be) -> None:
    store = JobStore(out)
    launch = next(store.launches())
    store.write_launch(replace(launch, ended=time.time(), exit_code=1, said="no such file"))
    be("bob")
    states = Counter(status.state for status in observe_sweep(out).runs.values())
    assert states == {ClusterState.FAILED: 1, ClusterState.PENDING: 9}


def test_a_sweep_of_an_earlier_version_belongs_to_the_owner_of_its_files(out: Path, be: Be) -> None:
    (out / "cluster" / "submitter.json").unlink()
    for file in (out / "cluster" / "orders").glob("*.json"):
        order = json.loads(file.read_text())
        del order["submitter"]
        file.write_text(json.dumps(order))
    be("bob")
    assert Counter(status.state for status in observe_sweep(out).runs.values()) == {ClusterState.PENDING: 10}
    before = contents(out)
    with pytest.raises(UserError, match=f"the user with number {UIDS['alice']} submitted this sweep"):
        invoke(["sync", str(out)])
    assert contents(out) == before
    be("alice")
    assert invoke(["sync", str(out)]) == 0


def test_a_pass_leaves_the_record_of_the_sweep_to_code_of_earlier_versions(out: Path) -> None:
    record = (out / "cluster" / "sweep.json").read_text()
    assert "submitter" not in json.loads(record)
    assert invoke(["sync", str(out)]) == 0
    assert (out / "cluster" / "sweep.json").read_text() == record


def test_another_user_cancels_nothing_while_the_scheduler_is_silent(out: Path, be: Be, fake_slurm: FakeSlurm) -> None:
    be("bob")
    fake_slurm.configure(controller="away")
    before = contents(out)
    with pytest.raises(UserError, match=r"alice on cluster here .* submitted this sweep"):
        invoke(["cancel", str(out)])
    assert contents(out) == before


def test_a_sweep_is_taken_over_whose_clock_was_ahead(out: Path, be: Be, fake_slurm: FakeSlurm) -> None:
    for file in (out / "cluster" / "orders").glob("*.json"):
        order = json.loads(file.read_text())
        file.write_text(json.dumps({**order, "created": order["created"] + 300}))
    be("bob")
    assert invoke(["retry", str(out), "--take-over"]) == 0
    store = JobStore(out)
    new = [order for order in store.orders() if not order.abandoned]
    assert {order.submitter.user for order in new if order.submitter} == {"bob"}
    assert min(order.created for order in new) > max(order.created for order in store.orders() if order.abandoned)
    assert invoke(["cancel", str(out)]) == 0
    assert all(job["state"] != "CANCELLED" for job in fake_slurm.jobs().values() if job["user"] == "alice@here")


def test_ids_of_another_cluster_mean_nothing_here(out: Path, be: Be, fake_slurm: FakeSlurm) -> None:
    be("bob")
    alice = cluster_sweep.submitter(out)
    assert alice is not None
    cluster_sweep.note_submitter(
        replace(alice, user="bob", uid=UIDS["bob"]), out
    )  # only by a fault: his, with her orders
    calls = len(fake_slurm.calls("scancel"))
    assert invoke(["cancel", str(out)]) == 0
    assert invoke(["sync", str(out)]) == 0
    assert len(fake_slurm.calls("scancel")) == calls
    assert {job["user"] for job in fake_slurm.jobs().values()} == {"alice@here"}


def test_a_sync_that_waits_ends_when_the_sweep_is_anothers(out: Path, be: Be) -> None:
    be("bob")
    with pytest.raises(cluster_sweep.AnotherSubmitterError):
        invoke(["sync", str(out), "--until-answered", "--every", "0"])
