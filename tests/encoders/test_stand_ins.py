"""Stand-ins that are measured in place of an encoder: pixels, and random numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fgssl.encoders.stand_ins import build_stand_in
from fgssl.settings.config import Config

Make = Callable[..., Config]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16)


def test_pixels_are_centered_and_scaled_by_the_training_images(tiny_config: Make, images: torch.Tensor) -> None:
    module = build_stand_in(tiny_config("method={name: pixels}"))
    module.prepare(images.split(4))  # the batches differ in size
    features = module(images)
    rows = images.numpy().astype(np.float64).reshape(6, -1)
    centered = rows - rows.mean(axis=0)
    distance = np.sqrt((centered**2).sum(axis=1).mean())
    torch.testing.assert_close(features.numpy(), (centered / distance).astype(np.float32), rtol=1e-4, atol=1e-6)


def test_large_images_are_averaged_to_the_side(tiny_config: Make, images: torch.Tensor) -> None:
    module = build_stand_in(tiny_config("method={name: pixels, side: 4}"))
    tiles = images.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5))
    torch.testing.assert_close(module(images), tiles.flatten(1))
    assert module(images).shape == (6, 48)
    assert build_stand_in(tiny_config("method={name: pixels}"))(images).shape == (6, 3 * 16 * 16)  # smaller ones stay


def test_equal_training_images_give_zeros_and_not_nan(tiny_config: Make, images: torch.Tensor) -> None:
    module = build_stand_in(tiny_config("method={name: pixels}"))
    module.prepare([images[:1].expand(4, -1, -1, -1).round()])
    assert not module(images[:1].round()).any()


def test_chance_depends_on_the_image_and_the_seed_alone(tiny_config: Make, images: torch.Tensor) -> None:
    module = build_stand_in(tiny_config("method={name: chance}"))
    features = module(images)
    assert features.shape == (6, 16)  # as many as the encoder has
    assert features.dtype == torch.float32
    assert torch.equal(features[2:4], module(images[2:4].contiguous(memory_format=torch.channels_last)))
    other = build_stand_in(tiny_config("method={name: chance}", "seed=1"))
    assert not torch.isclose(features, other(images)).any()
    other.load_state_dict(module.state_dict())
    assert torch.equal(features, other(images))


def test_chance_is_normal_and_knows_nothing(tiny_config: Make) -> None:
    images = torch.rand(2000, 3, 2, 2)
    images[1::2] = images[::2] + 1e-6  # nearly equal pairs
    features = build_stand_in(tiny_config("method={name: chance}"))(images).double()
    assert abs(float(features.mean())) < 0.01
    assert float(features.square().sum(dim=1).mean()) == pytest.approx(1, abs=0.03)
    first, second = features[::2], features[1::2]
    cosines = torch.nn.functional.cosine_similarity(first, second)
    assert abs(float(cosines.mean())) < 4 * 0.25 / 1000**0.5  # 0.25 is their standard deviation at 16 dimensions
