"""Boxes of ContrastiveCrop: found in activations, at set epochs, and the same after an interruption."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fgssl.errors import SettingsError
from fgssl.interruption import Interrupted
from fgssl.run.execution import execute
from fgssl.settings import config as configs
from fgssl.settings.config import Config
from fgssl.settings.views import ContrastiveCropSettings
from fgssl.store.records import Trained
from fgssl.training.crop_boxes import CropBoxes, boxes_of_activations
from tests.conftest import TINY


def slow_box(heat: Tensor, threshold: float, size: int) -> tuple[float, ...]:
    """Return the box of one map (C, H, W), pixel by pixel."""
    sums = heat.sum(dim=0)
    scaled = (sums - sums.min()) / (sums.max() - sums.min())
    pixels = F.interpolate(scaled[None, None], size=(size, size), mode="bilinear")[0, 0].tolist()
    rows = [row for row in range(size) if any(value > threshold for value in pixels[row])]
    columns = [column for column in range(size) if any(line[column] > threshold for line in pixels)]
    return columns[0] / size, rows[0] / size, columns[-1] / size, rows[-1] / size


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9])
def test_boxes_equal_the_slow_loop(threshold: float) -> None:
    maps = torch.rand(6, 5, 4, 7).pow(8)
    found = boxes_of_activations(maps, threshold, 32)
    expected = torch.tensor([slow_box(one, threshold, 32) for one in maps])
    torch.testing.assert_close(found, expected)


def test_an_object_in_one_quarter() -> None:
    maps = torch.zeros(1, 3, 8, 8)
    maps[:, :, 4:, :4] = 1  # below, left
    left, top, right, bottom = boxes_of_activations(maps, 0.1, 64)[0].tolist()
    assert left == 0
    assert top == pytest.approx(0.5, abs=0.07)
    assert right == pytest.approx(0.5, abs=0.07)
    assert bottom == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("value", [0.0, 3.0, float("nan")])
def test_a_map_without_an_object_gives_the_whole_image(value: float) -> None:
    assert boxes_of_activations(torch.full((1, 2, 4, 4), value), 0.1, 16).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("steps", "parts", "searches"),
    [
        (range(12), [range(4), range(4, 10), range(10, 12)], 2),  # after 2 epochs of 2 steps, then every 3
        (range(4, 12), [range(4, 10), range(10, 12)], 2),  # resumed where the boxes are due
        (range(5, 12), [range(5, 10), range(10, 12)], 1),
        (range(11, 12), [range(11, 12)], 0),
        (range(3), [range(3)], 0),
    ],
)
def test_boxes_are_searched_when_they_are_due(steps: range, parts: list[range], searches: int) -> None:
    done = list[int]()

    def search() -> Tensor:
        done.append(1)
        return torch.full((3, 4), float(len(done)))

    boxes = CropBoxes(ContrastiveCropSettings(warm_up_epochs=2, every_epochs=3), 2, search)
    found = []
    for part in boxes.periods(steps):
        assert (boxes.boxes is not None) == bool(done)
        found.append(part)
    assert found == parts
    assert len(done) == searches


CROP = "views.contrastive_crop={warm_up_epochs: 1, every_epochs: 2}"
LARGER = ("data.toy.image_size=32", "views.image_size=32", "encoder.arguments.output_stride=8")  # 4 x 4 positions
SIMCLR = ("method={name: simclr, hidden_width: 16, projection_width: 8}", "training.epochs=5", *LARGER)  # 30 steps


def trained(config: Config, out: Path, *stops: int) -> tuple[Trained, str]:
    """Return the record and the metrics of a training that is interrupted after each of the steps `stops`."""
    for stop in stops:
        with pytest.raises(Interrupted):
            execute(config, out, last_step=stop)
    folder = execute(config, out)
    record = folder.trained()
    assert record is not None
    return record, folder.metrics.read_text()


def test_interrupted_and_resumed_equals_straight(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    """Interruptions come in the warm-up, where boxes are due (6, 18), and one step after."""
    config = tiny_config(*SIMCLR, CROP)
    straight, metrics = trained(config, tmp_path / "straight")
    stopped, again = trained(config, tmp_path / "stopped", 4, 6, 7, 18, 22)
    assert straight.state_sha256 == stopped.state_sha256
    assert metrics == again


def test_boxes_change_crops_from_the_first_search_on(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    losses = {}
    for name, settings in (("plain", ()), ("boxes", (CROP,)), ("center", ("views.contrastive_crop={boxes: center}",))):
        lines = trained(tiny_config(*SIMCLR, *settings), tmp_path / name)[1].splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert losses["plain"][:6] == losses["boxes"][:6]
    assert losses["plain"][6] != losses["boxes"][6]
    assert losses["plain"][0] != losses["center"][0]


def test_boxes_are_part_of_the_checkpoint(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    config = tiny_config(*SIMCLR, CROP)
    with pytest.raises(Interrupted):
        execute(config, tmp_path, last_step=8)
    (file,) = tmp_path.glob("runs/*/checkpoints/*/state.pt")
    boxes = torch.load(file, weights_only=True)["crop_boxes"]
    assert boxes.shape == (192, 4)
    assert ((boxes[:, :2] < boxes[:, 2:]).all(dim=1)).float().mean() > 0.9
    assert len(np.unique(boxes.numpy(), axis=0)) > 10


def test_encoders_without_a_map_of_activations_are_refused(tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    """They are refused before the first step, though the first boxes are searched an epoch later."""
    with pytest.raises(SettingsError, match=r"views.image_size: .*one position"):
        execute(tiny_config(*SIMCLR, CROP, "views.image_size=16", "encoder.arguments.output_stride=16"), tmp_path)
    vit = {"img_size": 16, "patch_size": 4, "depth": 1, "embed_dim": 24, "num_heads": 2}
    mapping = {**TINY, "encoder": {"name": "vit_tiny_patch16_224", "arguments": vit, "batch_norm_group_size": 16}}
    config = configs.parse(configs.overridden(mapping, (*SIMCLR[:2], CROP)), "test")
    with pytest.raises(SettingsError, match=r"contrastive_crop.boxes: .*take center, or a ResNet"):
        execute(config, tmp_path)
    assert not list(tmp_path.glob("runs/*/metrics.jsonl"))
