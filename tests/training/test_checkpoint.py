"""Checkpoints: complete or absent, the newest few, skipped if damaged, rejected if of another config."""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fgssl.errors import CheckpointError, LeaseError, UserError
from fgssl.settings import fingerprints
from fgssl.settings.config import Config
from fgssl.store.lease import Lease
from fgssl.store.records import Environment, Identity
from fgssl.training import checkpoint
from fgssl.training.checkpoint import Checkpoint, Writer, state_sha256

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


# -------------------------------------------------------------------------------------------------- hashes


def numbers() -> torch.Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def hash_of(method: dict[Any, Any]) -> str:
    return state_sha256({"method": method, "optimizer": {}})


def test_the_hash_is_of_the_numbers_not_of_how_they_lie() -> None:
    first = {"a": numbers(), "b": [{"lr": 0.1, "betas": (0.9, 0.999)}], "c": {0: torch.tensor(1.0), 10: None}}
    other = numbers().contiguous(memory_format=torch.channels_last).requires_grad_()
    second = {
        "c": OrderedDict([(10, None), (0, torch.tensor(1.0))]),
        "b": [{"betas": [0.9, 0.999], "lr": 0.1}],
        "a": other,
    }
    assert other.stride() != numbers().stride()
    assert hash_of(first) == hash_of(second)
    assert hash_of({"a": numbers()[:, :, ::2]}) == hash_of({"a": numbers()[:, :, ::2].clone()})


def test_the_hash_changes_with_all_that_counts() -> None:
    one_bit = numbers()
    one_bit.view(torch.int32)[3, 2, 1, 0] ^= 1
    ones = torch.ones(6, dtype=torch.bfloat16)
    states: list[dict[Any, Any]] = [
        {"a": numbers()},
        {"a": one_bit},
        {"b": numbers()},
        {"a": numbers().reshape(4, 15, 5)},
        {"a": numbers().view(torch.int32)},
        {"a": numbers().transpose(2, 3)},
        {"a": ones},
        {"a": ones.view(torch.float16)},
        {"a": torch.ones(6, dtype=torch.bool)},
        {"a": torch.zeros(0)},
        {"a": torch.zeros(0, 1)},
        {"a": torch.tensor(0.0)},
        {"a": torch.tensor(-0.0)},
        {"a": 0.0},
        {"a": 0},
        {"a": False},
        {"a": None},
        {"a": "None"},
        {"a": []},
        {"a": {}},
        {"a": [1, [2]]},
        {"a": [[1], 2]},
        {"a": [1, 2]},
        {"a": "1\n", "b": "2"},
        {"a": "1", "b": "\n2"},
        {0: 1},
        {"0": 1},
        {},
    ]
    assert len({hash_of(state) for state in states}) == len(states)
    with pytest.raises(TypeError, match="plain values, not set"):
        hash_of({"a": {1, 2}})


def test_the_hash_of_method_and_optimizer_is_kept_and_the_same_after_reading(lease: Lease) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    result = {"method": network.state_dict(), "optimizer": optimizer.state_dict()}
    with Writer(lease.path / "checkpoints", lease, keep=2) as writer:
        for step in (1, 2):
            writer.save(Checkpoint(step, {**result, "wall_s": float(step)}, MINE, ()))
    for step in (1, 2):
        found = checkpoint.read(lease.path / "checkpoints" / f"step-{step:08d}")
        assert found.state["wall_s"] == step
        assert found.state_sha256 == state_sha256(found.state) == state_sha256(result)
        assert found.state["method"]._metadata == network.state_dict()._metadata  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------- kills

KILLED = """
import json, os, shutil, signal, sys, time
from pathlib import Path
import torch
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store.run_folder import RunFolder
from fgssl.training import checkpoint
from fgssl.store.records import Identity
from fgssl.training.checkpoint import Checkpoint, Writer

MINE = Identity("f00d", "images-1", {})
config, folder = configs.load(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
size, kills = int(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)  # a forked child waits for ever for OpenMP's threads of its parent

def newest():
    found = checkpoint.latest(folder.checkpoints, MINE)
    if found is None:
        return 0
    assert (found.state["method"]["weight"] == found.step).all()
    return found.step

def save(first, number, last_operation):
    # Killed at this operation (counted) on a file of a checkpoint, if there are so many.
    operations = 0
    def count(event, arguments):
        nonlocal operations
        if (event == "open" or event.startswith(("os.", "shutil."))) and str(folder.checkpoints) in str(arguments):
            operations += 1
            if operations == last_operation:
                os.kill(os.getpid(), signal.SIGKILL)
    with folder.lease(config) as lease, Writer(folder.checkpoints, lease, keep=2) as writer:
        sys.addaudithook(count)
        for step in range(first, first + number):
            weight = torch.full((size,), float(step))
            writer.save(Checkpoint(step, {"method": {"weight": weight}, "optimizer": {}}, MINE, ()))
    os._exit(0)

def aside():
    return set(folder.checkpoints.glob(".step-*"))

def attempt(number, last_operation=None, writing_s=None):
    # Prints the newest step on the disk before and after, how the child ended, and what it left half-done.
    before, left = newest(), aside()
    child = os.fork()
    if child == 0:
        save(before + 1, number, last_operation)
    if writing_s is not None:
        while not aside() - left:
            time.sleep(0.001)
        time.sleep(writing_s)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    halves = sum(1 + len(list(path.iterdir())) for path in aside() - left)
    print(json.dumps([before, newest(), os.waitstatus_to_exitcode(status), halves]), flush=True)
    for old in sorted(folder.checkpoints.glob("step-*"))[:-2]:  # each attempt has the same to do
        shutil.rmtree(old)
    return status

assert attempt(2) == 0
if kills == "every operation":
    operation = 1
    while attempt(1, last_operation=operation) != 0:
        operation += 1
else:
    for writing_s in kills:
        attempt(1000, writing_s=writing_s)
"""


def killed(config: Config, tmp_path: Path, size: int, kills: Any) -> list[list[int]]:
    """Return for each attempt: newest step before and after it, its end, and the number of partial files."""
    (tmp_path / "config.yaml").write_text(fingerprints.to_yaml(config))
    arguments = [str(tmp_path / "config.yaml"), str(tmp_path / "run"), str(size), json.dumps(kills)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_killed_at_every_operation_on_a_file(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    """The new one or the one before can be used, without a warning: nothing half-written bears a step's name."""
    first, *attempts, last = killed(tiny_config(), tmp_path, 10, "every operation")
    assert first == [0, 2, 0, 0]
    assert len(attempts) > 10
    assert all(end == -9 for _, _, end, _ in attempts)
    assert {after - before for before, after, _, _ in attempts} == {0, 1}
    assert {halves for _, _, _, halves in attempts} == {0, 1, 2, 3}
    assert last == [last[0], last[0] + 1, 0, 0]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


def test_killed_at_random_moments_of_writing(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    writing_s = (0.2 * torch.rand(12)).tolist()
    _, *attempts = killed(tiny_config(), tmp_path, 2_000_000, writing_s)
    assert len(attempts) == len(writing_s)
    assert all(end == -9 for _, _, end, _ in attempts)
    assert all(before <= after for before, after, _, _ in attempts)
    assert any(halves for _, _, _, halves in attempts), "no kill met a write"


def test_one_who_lost_the_lease_writes_nothing(lease: Lease, save: Callable[..., None]) -> None:
    save(5)
    record = json.loads((lease.path / "lease").read_text())
    (lease.path / "lease").write_text(json.dumps({**record, "lease_id": "another"}))
    with pytest.raises(LeaseError, match="lost its lease"):
        save(10)
    assert names(lease) == ["step-00000005"]
