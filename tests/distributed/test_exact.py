"""`invariant: exact`: every method ends in the same bits for every number of processes and every engine.

By default each number of processes runs with one engine, in turn, and four processes also run with DDP. With
FGSSL_WHOLE_MATRIX=1 all methods and engines run on all numbers, which takes more than twice as long.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EVERY_METHOD, SPREAD, WHOLE_MATRIX
from tests.distributed.conftest import Launch, record

WORLD_SIZES = (1, 2, 4)
ENGINES = ("ddp", "zero1", "zero2")
SHARDS = ("encoder.batch_norm_group_size=4", "training.global_batch_size=16", "training.invariant=exact")
TWENTY_STEPS = ("data.toy.train_images_per_species=7", "training.epochs=2", "resources.log_every_steps=1")
TWICE_THE_IMAGES = ("training.global_batch_size=32", "training.epochs=4")
VARIED = {
    # Settings that touch the gradient or the optimizer, each on a method or two.
    "simclr": ("training.gradient_clip_norm=0.5", "training.optimizer.name=adamw"),
    "both": ("training.optimizer={name: adam, learning_rate: 0.001}",),
    "hcl": ("training.images_per_class=2", "training.exact_shard_size=8", *TWICE_THE_IMAGES),
    "byol": ("training.precision=bf16",),
    "dino": ("training.optimizer={name: adamw, learning_rate: 0.001}", "training.weight_decay_end=0.4"),
    "vicreg": ("training.optimizer.learning_rate=0.001",),
    "supcon": ("resources.activation_checkpointing=true",),
}

pytestmark = pytest.mark.slow


def engines(name: str, world_size: int) -> tuple[str, ...]:
    if WHOLE_MATRIX:
        return ENGINES
    turn = list(EVERY_METHOD).index(name) + WORLD_SIZES.index(world_size)
    chosen = ENGINES[turn % len(ENGINES)]
    return ("ddp", chosen) if world_size == WORLD_SIZES[-1] and chosen != "ddp" else (chosen,)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, launch: Launch) -> dict[tuple[str, int, str], Path]:
    """Return the output folders of all runs, by method, number of processes and engine."""
    out = tmp_path_factory.mktemp("exact")
    (out / "data").mkdir()
    found = {}
    for world_size in WORLD_SIZES:
        cells: list[dict[str, Any]] = []
        for name in SPREAD:
            for engine in engines(name, world_size):
                folder = out / f"{name.replace(' ', '-')}-{world_size}-{engine}"
                found[name, world_size, engine] = folder
                folder.mkdir()
                (folder / "data").symlink_to(out / "data")  # rendered once
                settings = (
                    *EVERY_METHOD[name],
                    *SHARDS,
                    *TWENTY_STEPS,
                    *VARIED.get(name, ()),
                    f"resources.engine={engine}",
                )
                cells.append({"out": str(folder), "overrides": settings})
        launch(world_size, cells)
    return found


@pytest.mark.parametrize("name", SPREAD)
def test_one_hash_for_all_numbers_of_processes_and_engines(
    name: str, folders: dict[tuple[str, int, str], Path]
) -> None:
    records = {
        (size, engine): record(folders[name, size, engine]) for size in WORLD_SIZES for engine in engines(name, size)
    }
    assert {found["steps"] for found in records.values()} == {20}
    hashes = {cell: found["state_sha256"] for cell, found in records.items()}
    assert len(set(hashes.values())) == 1, json.dumps({str(cell): value[:8] for cell, value in hashes.items()})
    # What is told of every step is the same too.
    metrics = {next(folders[name, *cell].glob("runs/*/metrics.jsonl")).read_text() for cell in records}
    assert len(metrics) == 1
    assert len(metrics.pop().splitlines()) == 20


def test_eight_processes(tmp_path: Path, launch: Launch) -> None:
    hashes = set()
    for world_size in (1, 8):
        out = tmp_path / str(world_size)
        settings = (*EVERY_METHOD["both"], *SHARDS, "training.global_batch_size=32", "training.epochs=1")
        launch(world_size, [{"out": str(out), "overrides": settings}])
        hashes.add(record(out)["state_sha256"])
    assert len(hashes) == 1
