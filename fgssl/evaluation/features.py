"""Features of a frozen encoder."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fgssl.data.loader import RawBatch
from fgssl.errors import NonFiniteError
from fgssl.settings.views import ViewSettings
from fgssl.views import color


@torch.inference_mode()
def features(
    encoder: nn.Module,
    batches: Iterable[RawBatch],
    views: ViewSettings,
    device: torch.device,
    random_flip_seed: int | None = None,
) -> Tensor:
    """(N, D) float32 on the CPU, in the order of `batches`; the encoder in evaluation mode, its own BatchNorm."""
    encoder.eval()
    found = []
    for raw in batches:
        images = color.to_unit(torch.from_numpy(raw.images[0]).to(device))
        if random_flip_seed is not None:
            images = color.randomly_flipped(images, random_flip_seed, raw.epoch, raw.rows)
        found.append(encoder(color.normalized(images, views)).float().cpu())
    return torch.cat(found)


def require_finite(features: Tensor, measure: str, split: str) -> None:
    """Raise the `NonFiniteError` that names the measure and the split, such as `test`."""
    if not torch.isfinite(features).all():
        raise NonFiniteError(f"{measure}: the features of the {split} images hold values that are not finite")
