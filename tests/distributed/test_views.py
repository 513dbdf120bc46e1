"""Views of two sizes with colors of their own: the same bits on one process and on two, interrupted or not."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EVERY_METHOD
from tests.distributed.conftest import Launch, record

RECIPES = (
    "views.recipes=[{crop_area: [0.25, 1.0], blur_probability: 1.0}, "
    "{crop_area: [0.05, 0.25], image_size: 8, blur_probability: 0.1, solarize_probability: 0.2}]"
)
EXACT = ("encoder.batch_norm_group_size=4", "training.global_batch_size=16", "training.invariant=exact")
pytestmark = pytest.mark.slow

SHORT = ("data.toy.train_images_per_species=2", "training.epochs=2")  # six steps


def test_one_hash_on_one_process_and_on_two(tmp_path: Path, launch: Launch) -> None:
    """BYOL shows both views to both branches; MoCo v2 the first to the online and the second to the target branch."""
    (tmp_path / "data").mkdir()

    def cells(world_size: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name in ("byol", "mocov2"):
            out = tmp_path / f"{name}-{world_size}"
            out.mkdir()
            (out / "data").symlink_to(tmp_path / "data")  # rendered once
            cell = {"out": str(out), "overrides": (*EVERY_METHOD[name], *EXACT, *SHORT, RECIPES)}
            found += [{**cell, "last_step": 4}, cell] if world_size == 2 else [cell]
        return found

    for world_size in (1, 2):
        launch(world_size, cells(world_size))
    for name in ("byol", "mocov2"):
        one, two = (record(tmp_path / f"{name}-{world_size}") for world_size in (1, 2))
        assert one["steps"] == two["steps"] == 6
        assert one["state_sha256"] == two["state_sha256"]
