"""A frozen encoder -> its measures, those that the settings ask for."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fgssl.data.loader import Images, evaluation_batches
from fgssl.evaluation.features import Features, Splits, features
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.views import ViewSettings


def check(settings: EvaluationSettings, splits: Splits) -> None:
    """Raise the `DataError` of images that cannot be measured, before the training rather than after it."""
    for measure in settings.measures.values():
        measure.check(splits)


def measure(settings: EvaluationSettings, features: Features) -> dict[str, float]:
    """Return the value of each column in the order of `settings.columns`, and the names beside them.

    Raises what `check` and the measures raise.
    """
    check(settings, features)
    values: dict[str, float] = {}
    for each in settings.measures.values():
        values |= each.value(features)
    return values


def encoding(
    encoder: nn.Module, views: ViewSettings, seed: int, device: torch.device, *, batch_size: int, threads: int
) -> Callable[[Images, int | None], Tensor]:
    """Return the `Features.encode` of an encoder that lies on `device`; `batch_size` is images a forward pass."""

    def encode(images: Images, random_view_epoch: int | None) -> Tensor:
        random_seed = None if random_view_epoch is None else seed
        batches = evaluation_batches(
            images,
            views,
            batch_size=batch_size,
            threads=threads,
            random_crop_seed=random_seed,
            epoch=random_view_epoch or 0,
        )
        flip_seed = random_seed if views.horizontal_flip else None
        return features(encoder, batches, views, device, flip_seed).to(device)

    return encode
