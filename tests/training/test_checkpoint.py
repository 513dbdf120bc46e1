"""Checkpoints: complete or absent, the newest few, skipped if damaged, rejected if of another config."""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fgssl.errors import CheckpointError, LeaseError, UserError
from fgssl.store.lease import Lease
from fgssl.store.records import Environment, Identity
from fgssl.training import checkpoint
from fgssl.training.checkpoint import Checkpoint, Writer

MADE_BY = Environment(code_version="code-1", processes=1, engine="ddp", threads=1, device="cpu", versions={})
MINE = Identity(fingerprint="f00d", data_version="images-1", start_sha256={"encoder": "1234", "decoder": None})


def state(step: int) -> dict[str, Any]:
    return {"method": {"weight": torch.full((3,), float(step))}, "optimizer": {"state": {}}, "wall_s": 1.5 * step}


def of(step: int) -> Checkpoint:
    return Checkpoint(step, state(step), MINE, (MADE_BY,))


@pytest.fixture
def save(lease: Lease) -> Callable[..., None]:
    def at(step: int, keep: int = 2) -> None:
        with Writer(lease.path / "checkpoints", lease, keep) as writer:
            writer.save(of(step))

    return at


def names(lease: Lease) -> list[str]:
    return sorted(path.name for path in (lease.path / "checkpoints").iterdir())


def newest(lease: Lease) -> int | None:
    found = checkpoint.latest(lease.path / "checkpoints", MINE)
    if found is None:
        return None
    assert found.state["method"]["weight"].tolist() == [found.step] * 3
    assert found.state["wall_s"] == 1.5 * found.step
    assert found.identity == MINE
    assert found.environments == (MADE_BY,)
    return found.step


def test_without_any_there_is_no_latest(lease: Lease) -> None:
    assert newest(lease) is None


def test_the_newest_few_are_kept(lease: Lease, save: Callable[..., None]) -> None:
    with Writer(lease.path / "checkpoints", lease, keep=2) as writer:
        for step in (5, 10, 15):
            writer.save(of(step))
    assert names(lease) == ["step-00000010", "step-00000015"]
    for step in (100, 1000):  # of other processes
        save(step)
        assert newest(lease) == step
    assert names(lease) == ["step-00000100", "step-00001000"]
    save(1001, keep=1)
    assert names(lease) == ["step-00001001"]
    shutil.rmtree(lease.path / "checkpoints")
    assert newest(lease) is None


def damage(kind: str, folder: Path) -> None:
    state_file, mark = folder / "state.pt", folder / "COMPLETE"
    if kind == "half a state":
        state_file.write_bytes(state_file.read_bytes()[:200])
    elif kind == "one bit":
        content = bytearray(state_file.read_bytes())
        content[len(content) // 2] ^= 1
        state_file.write_bytes(content)
    elif kind == "half a mark":
        mark.write_text(mark.read_text()[:20])
    elif kind == "no mark":
        mark.unlink()
    elif kind == "no state":
        state_file.unlink()
    elif kind == "mark of another kind":
        mark.write_text("[5]")
    elif kind.startswith("mark without "):
        record = json.loads(mark.read_text())
        del record[kind.removeprefix("mark without ")]
        mark.write_text(json.dumps(record))
    elif kind == "hashed but no state":
        state_file.write_bytes(b"nothing that torch can load")
        record = json.loads(mark.read_text())
        record["sha256"]["state.pt"] = hashlib.sha256(state_file.read_bytes()).hexdigest()
        mark.write_text(json.dumps(record))
    else:
        shutil.rmtree(folder)
        if kind == "empty folder":
            folder.mkdir()
        else:
            assert kind == "a file in its place"
            folder.write_text("nothing")


KINDS = [
    *("half a state", "one bit", "half a mark", "no mark", "no state", "mark of another kind", "hashed but no state"),
    *("empty folder", "a file in its place"),
    *(f"mark without {key}" for key in ("step", "identity", "environments", "state_sha256", "sha256")),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_one_is_skipped_with_a_warning_and_the_one_before_is_used(
    kind: str, lease: Lease, save: Callable[..., None]
) -> None:
    save(5)
    save(10)
    damage(kind, lease.path / "checkpoints" / "step-00000010")
    with pytest.warns(UserWarning, match="step-00000010: .*; skipped"):
        assert newest(lease) == 5
    save(7, keep=1)  # on the way again; the damaged one does not count among the kept
    assert names(lease) == ["step-00000007"]
    assert newest(lease) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_only_intact_ones_count_among_the_kept(kind: str, lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    save(10)
    damage(kind, lease.path / "checkpoints" / "step-00000010")
    save(15)
    assert names(lease) == ["step-00000005", "step-00000015"]


def test_a_damaged_one_of_the_same_step_is_replaced(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    for kind in KINDS:
        save(10)
        damage(kind, lease.path / "checkpoints" / "step-00000010")
        save(10)
        assert newest(lease) == 10
        assert names(lease) == ["step-00000005", "step-00000010"]


def test_an_intact_one_of_the_same_step_stays_as_it_is(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    before = (lease.path / "checkpoints" / "step-00000005" / "COMPLETE").stat().st_ino
    save(5)
    assert (lease.path / "checkpoints" / "step-00000005" / "COMPLETE").stat().st_ino == before


def test_what_a_killed_writer_left_behind_is_not_read(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    shutil.copytree(lease.path / "checkpoints" / "step-00000005", lease.path / "checkpoints" / ".step-00000010-attempt")
    assert newest(lease) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "beef"}, r"was made by another config \(fingerprint f00d, not beef\)"),
        ({"data_version": "images-2"}, r"was trained on other data \(version images-1, not images-2\)"),
        ({"start_sha256": {"encoder": "5678", "decoder": None}}, r"was started from other weights \(start\.encoder\)"),
        ({"start_sha256": {"encoder": "1234", "decoder": "9"}}, r"was started from other weights \(start\.decoder\)"),
    ],
)
def test_one_of_another_run_is_refused(
    change: dict[str, Any], said: str, lease: Lease, save: Callable[..., None]
) -> None:
    save(5)
    with pytest.raises(CheckpointError, match=rf"^checkpoint of step 5 {said}; choose another --out"):
        checkpoint.latest(lease.path / "checkpoints", dataclasses.replace(MINE, **change))
    assert newest(lease) == 5


@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "mkdir"])
def test_a_full_disk_says_so_and_leaves_the_old_one(
    call: str, lease: Lease, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(5)
    before = {path: path.read_bytes() for path in (lease.path / "checkpoints").rglob("*") if path.is_file()}

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else pathlib.Path, call, full)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            save(10)
    assert {path: path.read_bytes() for path in (lease.path / "checkpoints").rglob("*") if path.is_file()} == before
    assert names(lease) == ["step-00000005"]
    assert newest(lease) == 5
    save(10)
    assert newest(lease) == 10


def test_a_disk_that_fills_up_in_the_middle_of_the_state(lease: Lease, save: Callable[..., None]) -> None:
    """A limit on the size of files meets the write itself, which torch does from C++."""
    save(5)
    large = dataclasses.replace(of(10), state={**state(10), "method": {"weight": torch.zeros(100_000)}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Writer(lease.path / "checkpoints", lease, keep=2) as writer:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            writer.save(large)
            with pytest.raises(UserError, match="step-00000010: cannot be written: File too large"):
                writer.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(lease) == ["step-00000005"]
        writer.save(large)
    assert names(lease) == ["step-00000005", "step-00000010"]


def test_all_is_on_the_disk_before_it_gets_its_name_and_old_ones_go_last(
    lease: Lease, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves what was flushed: files and names before the rename, the rename before a deletion."""
    save(5)
    done: list[str] = []
    flush, rename, remove = os.fsync, pathlib.Path.rename, shutil.rmtree

    def flushed(descriptor: int) -> None:
        file = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append("flush " + file.name.removeprefix(".").split(".")[0].removesuffix(f"-{lease.lease_id}"))
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return rename(path, target)

    def removed(path: Path, *arguments: Any, **keywords: Any) -> None:
        if path.exists():
            done.append(f"delete {path.name}")
        remove(path, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", flushed)
        patch.setattr(pathlib.Path, "rename", renamed)
        patch.setattr(shutil, "rmtree", removed)
        save(10, keep=1)
    assert done == [
        "flush state",
        "flush COMPLETE",
        "flush step-00000010",
        "name step-00000010",
        "flush checkpoints",
        "flush run",
        "delete step-00000005",
    ]


def test_one_who_lost_the_lease_writes_nothing(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    record = json.loads((lease.path / "lease").read_text())
    (lease.path / "lease").write_text(json.dumps({**record, "lease_id": "another"}))
    with pytest.raises(LeaseError, match="lost its lease"):
        save(10)
    assert names(lease) == ["step-00000005"]


# ------------------------------------------------------------------------------------------------ the thread


def test_training_may_change_the_state_once_save_has_returned(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = threading.Event()
    write = torch.save

    def later(*arguments: Any) -> None:
        assert changed.wait(60)
        write(*arguments)

    monkeypatch.setattr(torch, "save", later)
    with Writer(lease.path / "checkpoints", lease, keep=9) as writer:
        for step in (5, 10):  # the second into the memory of the first
            given = of(step)
            method, optimizer = given.state["method"], given.state["optimizer"]
            method["image"] = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
            optimizer["param_groups"] = [{"lr": 0.5, "params": [0]}]
            writer.save(given)
            method["weight"].add_(1)
            method["late"] = torch.ones(1)
            optimizer["param_groups"][0]["lr"] = 0.1
            changed.set()
            writer.wait()
            changed.clear()
            assert newest(lease) == step
            found = checkpoint.read(lease.path / "checkpoints" / f"step-{step:08d}")
            assert list(found.state["method"]) == ["weight", "image"]
            assert found.state["method"]["image"].is_contiguous(memory_format=torch.channels_last)
            assert found.state["optimizer"]["param_groups"] == [{"lr": 0.5, "params": [0]}]


def test_states_that_change_their_shapes(lease: Lease) -> None:
    with Writer(lease.path / "checkpoints", lease, keep=1) as writer:
        for step, values in enumerate([torch.ones(3), torch.ones(4), torch.ones(4).double(), torch.rand(2, 2).T]):
            writer.save(Checkpoint(step, {"method": {"a": values}, "optimizer": {}}, MINE, ()))
            writer.wait()
            found = checkpoint.latest(lease.path / "checkpoints", MINE)
            assert found is not None
            torch.testing.assert_close(found.state["method"]["a"], values, rtol=0, atol=0)


class BrokenError(Exception):
    pass


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: Any) -> None:
        raise BrokenError("by the test")

    monkeypatch.setattr(torch, "save", raises)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "occasion",
    [lambda writer: writer.save(of(10)), Writer.wait, lambda writer: writer.__exit__(None, None, None)],
    ids=["save", "wait", "exit"],
)
def test_what_went_wrong_in_the_thread_is_raised_at_the_next_occasion(
    occasion: Callable[[Writer], None], lease: Lease
) -> None:
    writer = Writer(lease.path / "checkpoints", lease, keep=2)
    writer.save(of(5))
    with pytest.raises(BrokenError, match="by the test"):
        occasion(writer)
    writer.wait()  # once is enough
    assert names(lease) == []


@pytest.mark.usefixtures("broken")
def test_it_does_not_hide_the_exception_under_way(lease: Lease) -> None:

    def interrupted() -> None:
        with Writer(lease.path / "checkpoints", lease, keep=2) as writer:
            writer.save(of(5))
            raise ZeroDivisionError

    with pytest.warns(UserWarning, match="the last checkpoint was not written: by the test"):  # noqa: SIM117
        with pytest.raises(ZeroDivisionError):
            interrupted()
