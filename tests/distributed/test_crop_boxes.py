"""Boxes of ContrastiveCrop and monitored features: the same bits on one, two and four processes, interrupted or not."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EVERY_METHOD
from tests.distributed.conftest import Launch, record

pytestmark = pytest.mark.slow

SETTINGS = (
    "views.contrastive_crop={warm_up_epochs: 1, every_epochs: 2}",
    "resources.monitor_every_epochs=1",
    "resources.monitor_images=50",  # not a multiple of the shards
    "data.toy.train_images_per_species=3",  # 72 images: four steps an epoch
    "data.toy.image_size=32",
    "views.image_size=32",
    "encoder.arguments.output_stride=8",
    "encoder.batch_norm_group_size=4",
    "training.global_batch_size=16",
    "training.invariant=exact",
    "training.epochs=4",
)
METHODS = ("simclr", "mocov2")  # mocov2's crops are exchanged between the processes
ENGINES = {1: "ddp", 2: "zero2", 4: "ddp"}


def test_one_hash_for_all_numbers_of_processes(tmp_path: Path, launch: Launch) -> None:
    (tmp_path / "data").mkdir()
    for world_size, engine in ENGINES.items():
        cells: list[dict[str, Any]] = []
        for name in METHODS:
            out = tmp_path / f"{name}-{world_size}"
            out.mkdir()
            (out / "data").symlink_to(tmp_path / "data")  # rendered once
            cell = {"out": str(out), "overrides": (*EVERY_METHOD[name], *SETTINGS, f"resources.engine={engine}")}
            stops = [{**cell, "last_step": step} for step in (4, 9)] if world_size == 2 else []  # boxes are due at 4
            cells += [*stops, cell]
        launch(world_size, cells)
    for name in METHODS:
        records = [record(tmp_path / f"{name}-{world_size}") for world_size in ENGINES]
        assert {found["steps"] for found in records} == {16}
        assert len({found["state_sha256"] for found in records}) == 1, name
        metrics = {
            next((tmp_path / f"{name}-{world_size}").glob("runs/*/metrics.jsonl")).read_text() for world_size in ENGINES
        }
        assert len(metrics) == 1, name
        assert metrics.pop().count("monitor_knn") == 4
