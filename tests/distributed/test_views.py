"""Views of two sizes, colors or backgrounds: the same bits on one, two and four processes, interrupted or not."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EVERY_METHOD
from tests.distributed.conftest import Launch, record
from tests.multi_crop import RECIPES

pytestmark = pytest.mark.slow

EXACT = ("encoder.batch_norm_group_size=4", "training.global_batch_size=16", "training.invariant=exact")
SHORT = ("data.toy.train_images_per_species=2", "training.epochs=2")  # six steps
LARGE_AND_SMALL = "views.recipes=[{crop_area: [0.25, 1.0]}, {crop_area: [0.05, 0.25], image_size: 8}]"
METHODS = {
    "dino": (*EVERY_METHOD["dino"], RECIPES),
    "mocov2": (*EVERY_METHOD["mocov2"], LARGE_AND_SMALL),  # the small view to the target branch
    "byol": (*EVERY_METHOD["byol"], LARGE_AND_SMALL),  # both to both branches
    "backgrounds": (*EVERY_METHOD["mocov2"], "views.background={probability: 0.5}"),
}


def test_one_hash_for_all_numbers_of_processes(tmp_path: Path, launch: Launch) -> None:
    (tmp_path / "data").mkdir()
    for world_size in (1, 2, 4):
        cells: list[dict[str, Any]] = []
        for name, overrides in METHODS.items():
            out = tmp_path / f"{name}-{world_size}"
            out.mkdir()
            (out / "data").symlink_to(tmp_path / "data")  # rendered once
            cell = {"out": str(out), "overrides": (*overrides, *EXACT, *SHORT)}
            cells += [{**cell, "last_step": 4}, cell] if world_size == 2 else [cell]
        launch(world_size, cells)
    for name in METHODS:
        records = [record(tmp_path / f"{name}-{world_size}") for world_size in (1, 2, 4)]
        assert {found["steps"] for found in records} == {6}
        assert len({found["state_sha256"] for found in records}) == 1, name
