"""Geometry: torchvision's, with random numbers that depend on (seed, epoch, view, image) alone."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from fgssl.views import crops


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


SIZES = [(40, 30), (30, 40), (32, 32), (200, 20), (20, 200), (1, 1), (7, 300)]


class OurNumbers:
    """Replacement of `torch` in torchvision's crop, which returns our (share, ratio, across, down) for each try."""

    exp = staticmethod(torch.exp)

    def __init__(self, tries: list[list[float]]) -> None:
        self._tries, self._held = iter(tries), list[float]()
        self._corner = list[float]()

    def empty(self, _: int) -> "OurNumbers":
        if not self._held:
            share, ratio, across, down = next(self._tries)
            self._held, self._corner = [share, ratio], [down, across]  # torchvision draws the top before the left
        return self

    def uniform_(self, low: float, high: float) -> torch.Tensor:
        return torch.as_tensor(low + (high - low) * self._held.pop(0), dtype=torch.float64)

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        return torch.tensor(low + int((high - low) * self._corner.pop(0)))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("area", [(0.2, 1.0), (0.08, 1.0), (0.9, 1.0)])
def test_the_box_is_torchvisions_for_the_same_numbers(
    width: int, height: int, area: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = v2.RandomResizedCrop(8, scale=area)
    transform._log_ratio = torch.tensor(transform.ratio, dtype=torch.float64).log()
    for numbers in crops.crop_numbers(0, "training", 0, 0, np.arange(50)):
        with monkeypatch.context() as patch:
            patch.setattr("torchvision.transforms.v2._geometry.torch", OurNumbers(numbers.tolist()))
            box = transform.make_params([picture(width, height)])
        expected = (box["left"], box["top"], box["left"] + box["width"], box["top"] + box["height"])
        assert crops.random_crop_box(width, height, numbers, area) == expected


def test_pixels_are_torchvisions_but_for_a_rounding() -> None:
    image, numbers = picture(57, 43), crops.crop_numbers(0, "training", 0, 0, np.arange(10))
    for one in numbers:
        left, top, right, bottom = crops.random_crop_box(57, 43, one, (0.2, 1.0))
        expected = v2.functional.resized_crop(image, top, left, bottom - top, right - left, [24, 24])
        close(crops.random_resized_crop(np.array(image), one, (0.2, 1.0), 24), expected)
    close(crops.resized(np.array(image), 24), v2.functional.resize(image, [24, 24]))


def test_a_crop_can_be_written_into_a_batch() -> None:
    """The bits are those of torch's public function, whose operation the crops call."""
    image, batch = np.array(picture(57, 43)), np.zeros((3, 24, 24, 3), dtype=np.uint8)
    expected = F.interpolate(torch.tensor(image).permute(2, 0, 1)[None], (24, 24), mode="bilinear", antialias=True)
    assert crops.resized(image, 24, batch[1]).base is batch
    assert (batch[1] == expected[0].permute(1, 2, 0).numpy()).all()
    assert not batch[[0, 2]].any()
    crops.resized(batch[1], 24, batch[2])
    assert (batch[2] == batch[1]).all()


def close(found: NDArray[np.uint8], expected: Image.Image) -> None:
    """Allow a difference of 1, since torch and Pillow round weights to 16 and 22 bits."""
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_processor_computes_the_same_bits(capability: str) -> None:
    code = (
        "import hashlib, numpy as np; from fgssl.views.crops import resized\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)\n"
        "print(hashlib.sha256(b''.join(resized(pixels, size).tobytes() for size in (9, 32, 60, 100))).hexdigest())"
    )
    command, environment = [sys.executable, "-c", code], {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    printed = subprocess.check_output(command, text=True, env=environment)
    assert printed == subprocess.check_output(command, text=True)


@pytest.mark.parametrize(("width", "height"), [(57, 43), (50, 50), (70, 41), (41, 70), (375, 500), (200, 31)])
def test_the_center_crop_is_torchvisions(width: int, height: int) -> None:
    image = picture(width, height)
    expected = v2.Compose([v2.Resize(32), v2.CenterCrop(28)])(image)
    close(crops.center_cropped(np.array(image), 32, 28), expected)


def test_an_image_of_the_right_size_is_left_as_it_is() -> None:
    image = np.array(picture(24, 24))
    assert (crops.resized(image, 24) == image).all()


def test_shares_and_ratios_are_those_asked_for() -> None:
    boxes = [
        crops.random_crop_box(1000, 1000, one, (0.2, 1.0))
        for one in crops.crop_numbers(0, "training", 0, 0, np.arange(2000))
    ]
    widths, heights = (np.array([box[2 + side] - box[side] for box in boxes]) for side in (0, 1))
    shares, ratios = widths * heights / 1e6, widths / heights
    assert shares.min() == pytest.approx(0.2, abs=0.01)
    assert shares.max() > 0.95
    assert math.log(ratios.min()) == pytest.approx(math.log(3 / 4), abs=0.02)
    assert math.log(ratios.max()) == pytest.approx(math.log(4 / 3), abs=0.02)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 1000


def test_numbers_are_a_function_of_seed_purpose_epoch_view_and_image() -> None:
    rows = np.array([3, 99, 0, 41])
    whole = crops.crop_numbers(0, "training", 2, 1, rows)
    assert (crops.crop_numbers(0, "training", 2, 1, rows[::-1]) == whole[::-1]).all()
    assert (crops.crop_numbers(0, "training", 2, 1, rows[1:2]) == whole[1:2]).all()
    for other in ((1, "training", 2, 1), (0, "probe", 2, 1), (0, "training", 3, 1), (0, "training", 2, 0)):
        assert (crops.crop_numbers(*other, rows) != whole).all()
