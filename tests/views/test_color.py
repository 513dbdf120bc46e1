"""Color on whole batches: torchvision's operations, with a factor and an order for each image.

The tolerance is 2e-6 (pixels in [0, 1], fp32), since hue and blur sum in another order than torchvision.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision

from fgssl import randomness
from fgssl.settings.views import ViewSettings
from fgssl.views import color

TOLERANCE = 2e-6
SETTINGS = ViewSettings(image_size=24)


@pytest.fixture
def images() -> Tensor:
    pixels = torch.rand(16, 3, 24, 20)
    pixels[0] = 0.5  # gray: no hue
    pixels[1] = 0.0
    pixels[2] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    return pixels


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_operation_is_torchvisions_of_that_name(name: str, images: Tensor) -> None:
    factors = torch.linspace(-0.5, 0.5, 16) if name == "hue" else torch.linspace(0, 2, 16)
    found = getattr(color, name)(images, factors.view(-1, 1, 1, 1))
    expected = [
        getattr(torchvision, f"adjust_{name}")(image, factor.item())
        for image, factor in zip(images, factors, strict=True)
    ]
    close(found, torch.stack(expected))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_solarize_is_torchvisions(threshold: float, images: Tensor) -> None:
    images[3, :, :2] = threshold  # which is inverted too
    assert torch.equal(color.solarize(images, threshold), torchvision.solarize(images, threshold))


def test_grayscale_is_torchvisions(images: Tensor) -> None:
    close(color.grayscale(images), torchvision.rgb_to_grayscale(images))


@pytest.mark.parametrize("side", [24, 9])
def test_blur_is_torchvisions_with_a_sigma_an_image(side: int, images: Tensor) -> None:
    """The kernel reaches three of the largest sigma, or as far as reflection can."""
    images, sigmas = images[..., :side, :side], torch.linspace(0.1, 2.0, 16)
    reach = min(6, images.shape[-1] - 1)
    expected = [
        torchvision.gaussian_blur(image, [2 * reach + 1] * 2, [sigma.item()] * 2)
        for image, sigma in zip(images, sigmas, strict=True)
    ]
    close(color.gaussian_blur(images, sigmas, 2.0), torch.stack(expected))


def test_a_small_image_is_blurred_no_further_than_its_edge() -> None:
    pixels = torch.rand(2, 3, 4, 5)
    expected = torchvision.gaussian_blur(pixels, [7, 7], [2.0, 2.0])
    close(color.gaussian_blur(pixels, torch.tensor([2.0, 2.0]), 2.0), expected)


def test_jitter_is_torchvisions_in_every_order(images: Tensor) -> None:
    names = ("brightness", "contrast", "saturation", "hue")
    factors = torch.rand(16, 4)
    for order in itertools.permutations(range(4)):  # order[i]: the operation at place i
        ranks = torch.tensor(order).argsort().double()[None].expand(16, -1) / 4
        found = color.color_jitter(images, factors, ranks, SETTINGS)
        for image, numbers, result in zip(images, factors.tolist(), found, strict=True):
            for operation in order:
                low, high = (-0.1, 0.1) if names[operation] == "hue" else (0.6, 1.4)
                factor = low + (high - low) * numbers[operation]
                image = getattr(torchvision, f"adjust_{names[operation]}")(image, factor)
            torch.testing.assert_close(result, image, rtol=0, atol=5e-6)  # four operations on end


def test_strengths_above_one_do_not_turn_negative(images: Tensor) -> None:
    settings = dataclasses.replace(SETTINGS, brightness=3.0, contrast=0.0, saturation=0.0, hue=0.0)
    dark = color.color_jitter(images, torch.zeros(16, 4), torch.rand(16, 4), settings)
    close(dark, torch.zeros_like(images))


def only(**probabilities: float) -> ViewSettings:
    """Return settings in which every operation except the named ones is off."""
    off: dict[str, Any] = {"jitter_probability": 0.0, "gray_probability": 0.0, "blur_probability": 0.0}
    return dataclasses.replace(SETTINGS, horizontal_flip=False, **(off | probabilities))


def test_a_view_is_jitter_gray_blur_solarize_and_flip_in_this_order(images: Tensor) -> None:
    rows = np.arange(16)
    recipe = dataclasses.replace(SETTINGS, solarize_probability=0.3, solarize_threshold=0.4)
    found = color.augmented(images, recipe, 5, 2, 1, rows)
    numbers = torch.from_numpy(randomness.uniform(5, "colour", 2, 1, rows=rows, columns=14)).float()
    happened = []
    for image, result, number in zip(images, found, numbers, strict=True):
        one = number[None]
        steps = tuple((number[[0, 1, 2, 3, 13]] < torch.tensor([0.8, 0.2, 0.5, 0.5, 0.3])).tolist())
        happened.append(steps)
        if steps[0]:
            image = color.color_jitter(image[None], one[:, 4:8], one[:, 8:12], SETTINGS)[0]
        if steps[1]:
            image = torchvision.rgb_to_grayscale(image, 3)
        if steps[2]:
            image = torchvision.gaussian_blur(image, [13, 13], [0.1 + 1.9 * number[12].item()] * 2)
        if steps[4]:
            image = torchvision.solarize(image, 0.4)
        if steps[3]:
            image = torchvision.horizontal_flip(image)
        close(result, image)
    assert all(len({steps[operation] for steps in happened}) == 2 for operation in range(5))


def test_a_view_is_a_function_of_seed_epoch_view_and_image_alone(images: Tensor) -> None:
    rows = np.arange(16) * 7
    whole = color.augmented(images, SETTINGS, 0, 1, 0, rows)
    backwards = color.augmented(images.flip(0), SETTINGS, 0, 1, 0, rows[::-1].copy())
    assert torch.equal(backwards.flip(0), whole)
    alone = [color.augmented(images[i : i + 1], SETTINGS, 0, 1, 0, rows[i : i + 1]) for i in range(16)]
    assert torch.equal(torch.cat(alone), whole)
    for seed, epoch, view in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        assert not torch.equal(color.augmented(images, SETTINGS, seed, epoch, view, rows), whole)


def test_the_input_is_left_as_it_was(images: Tensor) -> None:
    before = images.clone()
    color.augmented(images, SETTINGS, 0, 0, 0, np.arange(16))
    assert torch.equal(images, before)


def test_with_everything_off_nothing_happens(images: Tensor) -> None:
    assert torch.equal(color.augmented(images, only(), 0, 0, 0, np.arange(16)), images)


def test_flips_happen_where_they_are_wanted_and_only_there() -> None:
    pixels = torch.rand(1, 3, 8, 8).expand(400, -1, -1, -1)
    flips = dataclasses.replace(only(), horizontal_flip=True)
    mirrored = (color.augmented(pixels, flips, 0, 0, 0, np.arange(400)) == pixels.flip(-1)).all(dim=(1, 2, 3))
    kept = (color.augmented(pixels, flips, 0, 0, 0, np.arange(400)) == pixels).all(dim=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "share"), [("jitter_probability", 0.8), ("gray_probability", 0.2)])
def test_shares_of_views_are_the_probabilities(name: str, share: float) -> None:
    pixels = torch.rand(1, 3, 4, 4).expand(1000, -1, -1, -1)
    changed = color.augmented(pixels, only(**{name: share}), 0, 0, 0, np.arange(1000)) != pixels
    assert changed.any(dim=3).any(dim=2).any(dim=1).double().mean().item() == pytest.approx(share, abs=0.05)


def test_the_probes_flip_is_a_function_of_seed_epoch_and_image() -> None:
    pixels, rows = torch.rand(1, 3, 4, 4).expand(300, -1, -1, -1), np.arange(300)
    whole = color.randomly_flipped(pixels, 0, 3, rows)
    flipped = (whole == pixels.flip(-1)).all(dim=(1, 2, 3))
    assert flipped.double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(color.randomly_flipped(pixels[:9], 0, 3, rows[50:59]), whole[50:59])
    assert not torch.equal(color.randomly_flipped(pixels, 0, 4, rows), whole)


def test_pixels_are_scaled_and_normalized_channel_by_channel(images: Tensor) -> None:
    raw = (images * 255).byte().permute(0, 2, 3, 1)  # (N, H, W, C)
    unit = color.to_unit(raw)
    assert torch.equal(unit, raw.permute(0, 3, 1, 2).float() / 255)
    expected = torchvision.normalize(unit, list(SETTINGS.mean), list(SETTINGS.std))
    torch.testing.assert_close(color.normalized(unit, SETTINGS), expected)
