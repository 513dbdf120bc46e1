"""Whole runs on a GPU: reproducible bits, also after a resume, and the results of the CPU up to rounding."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fgssl.interruption import Interrupted
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.store.run_folder import RunFolder

TinyConfig = Callable[..., Config]
GPU = ("resources.device=cuda", "resources.loader_threads=2")
MEASURES = (
    "evaluation={linear: {epochs: 5, learning_rates: [0.1, 1.0], label_fractions: [1.0, 0.5]}, knn: {neighbors: 5}, "
    "retrieval: true, outliers: {levels: {species: 0, genus: 1}}, collapse: true, "
    "nuisances: {light: [brightness, warmth]}}"
)


def logged(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def state_sha256(folder: RunFolder) -> str:
    trained = folder.trained()
    assert trained is not None
    assert trained.state_sha256 is not None
    return trained.state_sha256


def test_every_method_leaves_the_same_bits_twice(
    tiny_config: TinyConfig, every_method: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny_config(*every_method, *GPU, "training.invariant=exact")
    first, second = (execute(config, tmp_path / name) for name in ("first", "second"))
    assert state_sha256(first) == state_sha256(second)


def test_the_first_step_of_every_method_is_that_of_the_cpu(
    tiny_config: TinyConfig, every_method: tuple[str, ...], tmp_path: Path
) -> None:
    """In double precision; later steps drift apart, since colors are computed in single precision."""
    config = [*every_method, "training.precision=fp64"]
    cpu = logged(execute(tiny_config(*config), tmp_path / "cpu"))[0]
    gpu = logged(execute(tiny_config(*config, *GPU), tmp_path / "gpu"))[0]
    assert cpu.keys() == gpu.keys()
    for name in cpu.keys() - {"time", "wall_s", "images_per_s"}:
        assert gpu[name] == pytest.approx(cpu[name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_method_trains_in_every_precision(
    tiny_config: TinyConfig, every_method: tuple[str, ...], precision: str, tmp_path: Path
) -> None:
    folder = execute(tiny_config(*every_method, *GPU, f"training.precision={precision}"), tmp_path)
    assert all(math.isfinite(one["loss"]) for one in logged(folder))


@pytest.mark.parametrize("engine", ["close", "exact"])
def test_a_resumed_run_leaves_the_bits_of_a_straight_one(tiny_config: TinyConfig, engine: str, tmp_path: Path) -> None:
    config = tiny_config(*GPU, f"training.invariant={engine}")
    straight = execute(config, tmp_path / "straight")
    with pytest.raises(Interrupted):
        execute(config, tmp_path / "resumed", last_step=5)
    assert state_sha256(execute(config, tmp_path / "resumed")) == state_sha256(straight)


def test_micro_batches_change_rounding_only_and_save_memory(tiny_config: TinyConfig, tmp_path: Path) -> None:
    def run(name: str, *overrides: str) -> tuple[list[dict[str, Any]], int]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        wide = ("views.image_size=64", "training.precision=fp64")
        folder = execute(tiny_config(*GPU, *wide, *overrides), tmp_path / name)
        return logged(folder), torch.cuda.max_memory_allocated()

    (whole, whole_bytes), (micro, micro_bytes) = run("whole"), run("micro", "resources.micro_batch_size=16")
    assert micro_bytes < whole_bytes
    for one, other in zip(whole, micro, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)


def test_activation_checkpointing(tiny_config: TinyConfig, tmp_path: Path) -> None:
    config = ("training.invariant=exact", *GPU)
    plain = execute(tiny_config(*config), tmp_path / "plain")
    recomputed = execute(tiny_config(*config, "resources.activation_checkpointing=true"), tmp_path / "recomputed")
    assert state_sha256(plain) == state_sha256(recomputed)


def test_measures_are_those_of_the_cpu(tiny_config: TinyConfig, tmp_path: Path) -> None:
    def measures(*overrides: str) -> dict[str, float]:
        config = tiny_config("method={name: start_encoder}", MEASURES, *overrides)
        evaluation = execute(config, tmp_path / overrides[0].partition("=")[2]).evaluation(config)
        assert evaluation is not None
        return dict(evaluation.measures)

    cpu, gpu = measures("resources.device=cpu"), measures(*GPU)
    assert cpu.keys() == gpu.keys()
    images = 2 * 24  # of the test split: one of them on a border may change sides
    for name, value in cpu.items():
        assert gpu[name] == pytest.approx(value, rel=1e-3, abs=2 * 100 / images), name
