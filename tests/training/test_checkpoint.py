"""Checkpoints: whole or not there, the newest few, skipped when damaged, refused when another config's."""

import dataclasses
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fgssl.errors import CheckpointError, LeaseError, UserError
from fgssl.run_folder import Lease, RunFolder
from fgssl.training import checkpoint
from fgssl.training.checkpoint import Checkpoint, Identity

MINE = Identity(fingerprint="f00d", data_version="images-1", start_sha256={"encoder": "1234", "decoder": None})


def state(step: int) -> dict[str, Any]:
    return {"method": {"weight": torch.full((3,), float(step))}, "optimizer": {"state": {}}, "wall_s": 1.5 * step}


@pytest.fixture
def save(lease: Lease) -> Callable[..., None]:
    def at(step: int, keep: int = 2) -> None:
        checkpoint.save(lease.folder.checkpoints, Checkpoint(step, state(step), MINE, ["code-1"]), lease, keep)

    return at


def names(lease: Lease) -> list[str]:
    return sorted(path.name for path in lease.folder.checkpoints.iterdir())


def newest(lease: Lease) -> int | None:
    found = checkpoint.latest(lease.folder.checkpoints, MINE)
    if found is None:
        return None
    assert found.state["method"]["weight"].tolist() == [found.step] * 3
    assert found.state["wall_s"] == 1.5 * found.step
    assert found.identity == MINE
    assert found.code_versions == ["code-1"]
    return found.step


def test_without_any_there_is_no_latest(lease: Lease) -> None:
    assert newest(lease) is None


def test_the_newest_few_are_kept(lease: Lease, save: Callable[..., None]) -> None:
    for step in (5, 10, 100, 1000):
        save(step)
        assert newest(lease) == step
    assert names(lease) == ["step-00000100", "step-00001000"]
    save(1001, keep=1)
    assert names(lease) == ["step-00001001"]
    checkpoint.delete_all(lease.folder.checkpoints)
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


@pytest.mark.parametrize("kind", ["half a state", "one bit", "half a mark", "no mark", "no state"])
def test_a_damaged_one_is_skipped_with_a_warning_and_the_one_before_is_used(
    kind: str, lease: Lease, save: Callable[..., None]
) -> None:
    save(5)
    save(10)
    damage(kind, lease.folder.checkpoints / "step-00000010")
    with pytest.warns(UserWarning, match="step-00000010: .*; skipped"):
        assert newest(lease) == 5
    save(7, keep=1)  # on the way again; the damaged one does not count among the kept
    assert names(lease) == ["step-00000007"]
    assert newest(lease) == 7


def test_a_damaged_one_of_the_same_step_is_replaced(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    save(10)
    damage("one bit", lease.folder.checkpoints / "step-00000010")
    save(10)
    assert newest(lease) == 10


def test_what_a_killed_writer_left_behind_is_not_read(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    shutil.copytree(lease.folder.checkpoints / "step-00000005", lease.folder.checkpoints / ".step-00000010-attempt")
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
        checkpoint.latest(lease.folder.checkpoints, dataclasses.replace(MINE, **change))
    assert newest(lease) == 5


@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "mkdir"])
def test_a_full_disk_says_so_and_leaves_the_old_one(
    call: str, lease: Lease, save: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(5)
    before = {path: path.read_bytes() for path in lease.folder.checkpoints.rglob("*") if path.is_file()}

    def full(*arguments: Any, **keywords: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else pathlib.Path, call, full)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            save(10)
    assert {path: path.read_bytes() for path in lease.folder.checkpoints.rglob("*") if path.is_file()} == before
    assert names(lease) == ["step-00000005"]
    assert newest(lease) == 5
    save(10)
    assert newest(lease) == 10


def test_one_who_lost_the_lease_writes_nothing(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    record = json.loads((lease.folder.path / "lease").read_text())
    (lease.folder.path / "lease").write_text(json.dumps({**record, "attempt": "another"}))
    with pytest.raises(LeaseError, match="lost its lease"):
        save(10)
    assert names(lease) == ["step-00000005"]
    assert isinstance(lease.folder, RunFolder)
