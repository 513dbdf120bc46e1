"""Colors of views on the CPU and on the device: torchvision's operations on floats, in the order that was drawn.

Pixels lie in [0, 1]. The device computes in float32; the tolerance is 5e-6, since four operations on end sum in another
order than torchvision. The CPU computes the same and rounds once, to 1/255: the tolerance is half of this, plus 1e-5.
"""

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as torchvision

from fgssl import randomness
from fgssl.settings.views import ViewRecipe, ViewSettings
from fgssl.views import on_cpu, on_device
from fgssl.views.changes import Changes, drawn
from fgssl.views.normalization import normalized, to_unit

NUMBER = 24
SETTINGS = ViewSettings(image_size=24)
NAMES = ("brightness", "contrast", "saturation", "hue")
Bytes = NDArray[np.uint8]


def on_the_cpu(images: Bytes, changes: Changes, recipe: ViewRecipe) -> Tensor:
    changed = images.copy()
    for i, one in enumerate(changed):
        on_cpu.change(one, changes, i, recipe)
    return to_unit(torch.tensor(changed))


def on_the_device(images: Bytes, changes: Changes, recipe: ViewRecipe) -> Tensor:
    return on_device.changed(to_unit(torch.tensor(images)), changes, recipe)


PLACES = {"cpu": (on_the_cpu, 0.5 / 255 + 1e-5), "device": (on_the_device, 5e-6)}
Place = Callable[[Bytes, Changes, ViewRecipe], Tensor]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[Place, float]:
    return PLACES[request.param]


@pytest.fixture
def images() -> Bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (NUMBER, 24, 20, 3), dtype=np.uint8)
    pixels[0] = 128  # gray: no hue
    pixels[1] = 0
    pixels[2] = (255, 0, 255)
    return pixels


def none(number: int = NUMBER) -> Changes:
    """Return changes that leave `number` images as they are."""
    blends = np.zeros((number, 2, 3, 3), dtype=np.float32)
    blends[..., 0] = 1
    zero, no = np.zeros(number, dtype=np.float32), np.zeros(number, dtype=bool)
    return Changes(blends=blends, turns=zero, gray=no, sigma=zero, solarized=no, flipped=no)


def only(**changes: Any) -> Changes:
    return dataclasses.replace(none(), **changes)


def blends_of(name: str, factors: NDArray[np.float64]) -> NDArray[np.float32]:
    blends = none().blends
    blends[:, 1, 2] = [(factor, name == "contrast", name == "saturation") for factor in factors]
    return blends


def compare(place: tuple[Place, float], images: Bytes, changes: Changes, expected: list[Tensor]) -> None:
    compute, tolerance = place
    found = compute(images, changes, dataclasses.replace(SETTINGS, solarize_threshold=0.4))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvisions_of_that_name(name: str, place: tuple[Place, float], images: Bytes) -> None:
    factors = np.linspace(-0.5, 0.5, NUMBER) if name == "hue" else np.linspace(0, 2, NUMBER)
    turned = {"turns": factors.astype(np.float32)}
    changes = only(**turned) if name == "hue" else only(blends=blends_of(name, factors))
    adjust = getattr(torchvision, f"adjust_{name}")
    unit = to_unit(torch.tensor(images))
    compare(place, images, changes, [adjust(*one) for one in zip(unit, factors.tolist(), strict=True)])


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_solarize_is_torchvisions(threshold: float, place: tuple[Place, float], images: Bytes) -> None:
    images[3, :2] = 102  # 0.4, which is inverted too
    compute, tolerance = place
    found = compute(
        images, only(solarized=np.ones(NUMBER, bool)), dataclasses.replace(SETTINGS, solarize_threshold=threshold)
    )
    expected = torchvision.solarize(to_unit(torch.tensor(images)), threshold)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_gray_and_flip_are_torchvisions(place: tuple[Place, float], images: Bytes) -> None:
    unit = to_unit(torch.tensor(images))
    compare(place, images, only(gray=np.ones(NUMBER, bool)), list(torchvision.rgb_to_grayscale(unit, 3)))
    compare(place, images, only(flipped=np.ones(NUMBER, bool)), list(torchvision.horizontal_flip(unit)))


@pytest.mark.parametrize("side", [24, 9, 4])
def test_blur_is_torchvisions_with_a_sigma_per_image(side: int, place: tuple[Place, float], images: Bytes) -> None:
    """The kernel reaches three times the largest sigma, or as far as reflection can."""
    images, sigma = images[:, :side, :side], np.linspace(0.1, 2.0, NUMBER, dtype=np.float32)
    size = [2 * min(6, images.shape[1] - 1, images.shape[2] - 1) + 1] * 2
    unit = to_unit(torch.tensor(images))
    expected = [torchvision.gaussian_blur(*one) for one in zip(unit, [size] * NUMBER, sigma.tolist(), strict=True)]
    compare(place, images, only(sigma=sigma), expected)


def test_jitter_is_torchvisions_in_every_order(
    place: tuple[Place, float], images: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ViewRecipe(
        jitter_probability=1, gray_probability=0, blur_probability=0, horizontal_flip=False, image_size=24
    )
    orders = list(itertools.permutations(range(4)))  # order[i]: the operation at place i
    numbers = np.random.default_rng(1).random((NUMBER, 14))
    numbers[:, 8:12] = np.argsort(orders, axis=1) / 4
    monkeypatch.setattr(randomness, "uniform", lambda *_, rows, columns: numbers)
    found = place[0](images, drawn(recipe, 0, 0, 0, np.arange(NUMBER)), recipe)
    for image, number, order, result in zip(to_unit(torch.tensor(images)), numbers, orders, found, strict=True):
        for operation in order:
            low, high = (-0.1, 0.1) if NAMES[operation] == "hue" else (0.6, 1.4)
            factor = low + (high - low) * number[4 + operation]
            image = getattr(torchvision, f"adjust_{NAMES[operation]}")(image, factor)
        torch.testing.assert_close(result, image, rtol=0, atol=place[1])


def test_a_view_is_jitter_gray_blur_solarize_and_flip_in_this_order(place: tuple[Place, float], images: Bytes) -> None:
    recipe = dataclasses.replace(SETTINGS, solarize_probability=0.3, solarize_threshold=0.4)
    rows = np.arange(NUMBER)
    whole = drawn(recipe, 5, 2, 1, rows)
    numbers = randomness.uniform(5, "colour", 2, 1, rows=rows, columns=14)
    happened = numbers[:, [0, 1, 2, 3, 13]] < [0.8, 0.2, 0.5, 0.5, 0.3]
    assert ((whole.blends[:, ..., 0] != 1).any(axis=(1, 2)) == happened[:, 0]).all()
    found = np.column_stack([whole.gray, whole.sigma > 0, whole.flipped, whole.solarized])
    assert (found == happened[:, 1:]).all()
    np.testing.assert_allclose(whole.sigma, np.where(happened[:, 2], 0.1 + 1.9 * numbers[:, 12], 0), rtol=1e-6)

    steps = dataclasses.replace(whole, gray=none().gray, sigma=none().sigma, solarized=none().gray, flipped=none().gray)
    expected = list(on_the_device(images, steps, recipe))
    for i in rows:
        if whole.gray[i]:
            expected[i] = torchvision.rgb_to_grayscale(expected[i], 3)
        if whole.sigma[i]:
            expected[i] = torchvision.gaussian_blur(expected[i], [13, 13], [float(whole.sigma[i])] * 2)
        if whole.solarized[i]:
            expected[i] = torchvision.solarize(expected[i], 0.4)
        if whole.flipped[i]:
            expected[i] = torchvision.horizontal_flip(expected[i])
    compute, tolerance = place
    difference = (compute(images, whole, recipe) - torch.stack(expected)).abs()
    near = 1e-5  # a pixel this near to the threshold may be inverted in one place and not in the other
    assert (difference > tolerance).float().mean() < near
    assert {True, False} == set(happened.flatten().tolist())


def test_changes_are_a_function_of_seed_view_key_view_and_row_alone() -> None:
    rows = np.arange(NUMBER) * 7
    recipe = dataclasses.replace(SETTINGS, solarize_probability=0.3)
    whole = dataclasses.asdict(drawn(recipe, 0, 1, 0, rows))
    for order in (slice(None, None, -1), slice(3, 4)):
        part = dataclasses.asdict(drawn(recipe, 0, 1, 0, rows[order]))
        assert all((part[name] == whole[name][order]).all() for name in whole)
    for other in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        assert not np.array_equal(drawn(recipe, *other, rows).blends, whole["blends"])


def test_an_image_alone_is_changed_as_in_the_batch(place: tuple[Place, float], images: Bytes) -> None:
    compute, rows = place[0], np.arange(NUMBER)
    whole = compute(images, drawn(SETTINGS, 0, 1, 0, rows), SETTINGS)
    for i in rows:
        alone = compute(images[i : i + 1], drawn(SETTINGS, 0, 1, 0, rows[i : i + 1]), SETTINGS)
        torch.testing.assert_close(alone[0], whole[i], rtol=0, atol=2e-7)  # a convolution may sum in another order


def test_without_changes_the_images_stay(place: tuple[Place, float], images: Bytes) -> None:
    before = images.copy()
    assert torch.equal(place[0](images, none(), SETTINGS), to_unit(torch.tensor(images)))
    place[0](images, drawn(SETTINGS, 0, 0, 0, np.arange(NUMBER)), SETTINGS)
    assert (images == before).all()


def test_strengths_above_one_do_not_turn_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = ViewRecipe(brightness=3.0, contrast=0.0, saturation=0.0, hue=0.0, jitter_probability=1)
    monkeypatch.setattr(randomness, "uniform", lambda *_, rows, columns: np.zeros((len(rows), columns)))
    assert drawn(recipe, 0, 0, 0, np.arange(3)).blends[..., 0].min() == 0


@pytest.mark.parametrize(
    ("name", "share"), [("jitter", 0.8), ("gray", 0.2), ("sigma", 0.5), ("solarized", 0.3), ("flipped", 0.5)]
)
def test_shares_of_views_are_the_probabilities(name: str, share: float) -> None:
    changes = drawn(dataclasses.replace(SETTINGS, solarize_probability=0.3), 0, 0, 0, np.arange(4000))
    happened = changes.turns != 0 if name == "jitter" else getattr(changes, name) > 0
    assert happened.mean() == pytest.approx(share, abs=0.03)


def test_torchvisions_own_two_ways_differ_by_more(images: Bytes) -> None:
    """The recipe of MoCo v2 on PIL images rounds after each operation, and its hue has 8 bits."""
    jitter = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    with_pil = []
    for seed, image in enumerate(images):
        torch.manual_seed(seed)
        unit = jitter(to_unit(torch.tensor(image[None]))[0])
        torch.manual_seed(seed)
        pil = np.array(jitter(Image.fromarray(image)))
        with_pil.append((to_unit(torch.tensor(pil[None]))[0] - unit).abs())
    own = torch.stack(with_pil)
    changes = dataclasses.replace(
        drawn(SETTINGS, 0, 0, 0, np.arange(NUMBER)), gray=none().gray, sigma=none().sigma, flipped=none().gray
    )
    ours = (on_the_cpu(images, changes, SETTINGS) - on_the_device(images, changes, SETTINGS)).abs()
    assert ours.mean() < own.mean() / 2
    assert ours.max() < own.max() / 2


@pytest.mark.parametrize("disabled", ["", "AVX512_SKX,AVX2,FMA3", "AVX512_SKX,AVX2,FMA3,AVX,SSE4_2,SSE4_1"])
def test_other_processors_round_a_pixel_in_a_thousand_otherwise(disabled: str) -> None:
    """OpenCV sums in another order with other instructions; a value between two integers can fall to either side."""
    code = (
        "import sys, numpy as np; from fgssl.settings.views import ViewRecipe\n"
        "from fgssl.views import on_cpu; from fgssl.views.changes import drawn\n"
        "images = np.random.default_rng(0).integers(0, 256, (40, 61, 47, 3), dtype=np.uint8)\n"
        "changes = drawn(ViewRecipe(), 0, 0, 0, np.arange(40))\n"
        "for i, one in enumerate(images):\n"
        "    on_cpu.change(one, changes, i, ViewRecipe())\n"
        "sys.stdout.buffer.write(images.tobytes())\n"
    )
    command = [sys.executable, "-c", code]
    usual, other = (
        np.frombuffer(
            subprocess.check_output(command, env={**os.environ, "OPENCV_CPU_DISABLE": off}, stderr=subprocess.DEVNULL),
            dtype=np.uint8,
        ).astype(int)
        for off in ("", disabled)
    )
    assert len(usual) == 40 * 61 * 47 * 3
    difference = np.abs(usual - other)
    assert difference.max() <= 1
    assert difference.mean() <= (1e-3 if disabled else 0)


def test_pixels_are_scaled_and_normalized_channel_by_channel(images: Bytes) -> None:
    raw = torch.tensor(images)
    unit = to_unit(raw)
    assert torch.equal(unit, raw.permute(0, 3, 1, 2).float() / 255)
    expected = torchvision.normalize(unit, list(SETTINGS.mean), list(SETTINGS.std))
    torch.testing.assert_close(normalized(unit, SETTINGS), expected)
