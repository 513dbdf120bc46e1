"""Hash of a training state: a function of its numbers, not of their layout."""

from collections import OrderedDict
from typing import Any

import pytest
import torch

from fgssl.store.lease import Lease
from fgssl.store.records import Identity
from fgssl.training import checkpoint
from fgssl.training.checkpoint import Checkpoint, Writer, state_sha256

MINE = Identity(fingerprint="f00d", data_version="images-1", start_sha256={"encoder": "1234", "decoder": None})


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
