"""Passes of the encoder over training images between two steps, divided among the processes."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgssl import randomness
from fgssl.collapse import effective_rank, normalized_std
from fgssl.data.loader import original_batches
from fgssl.data.sampling import steps_per_epoch
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.feature_maps import as_map, map_channels, refuse_normalized_maps, unpooled
from fgssl.encoders.freezing import train_unfrozen
from fgssl.evaluation.knn import weighted_knn
from fgssl.settings.config import Config
from fgssl.training.crop_boxes import MIDDLE, CropBoxes, boxes_of_activations
from fgssl.training.trainer import Monitor, Trainer, no_monitor

_NEIGHBORS = 20


@torch.no_grad()
def encoded(
    config: Config, trainer: Trainer, train: ShardedSplit, rows: NDArray[np.int64], encode: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return `encode` of the resized images of dataset `rows`, (len(rows), ...), on every process.

    All images go through it in groups of `encoder.batch_norm_group_size`, whatever the number of processes, with the
    encoder in evaluation mode.
    """
    world, group, method = trainer.world, config.encoder.batch_norm_group_size, trainer.engine.method
    length = math.ceil(len(rows) / (group * world.size)) * group * world.size
    padded = np.pad(rows, (0, length - len(rows)), mode="edge")
    method.eval()
    batches = original_batches(train, config.views, padded[world.share(length)], group, config.resources.loader_threads)
    own = [encode(trainer.views.original(torch.from_numpy(raw.images[0]).to(world.device))) for raw in batches]
    train_unfrozen(method)
    return world.gather({"encoded": torch.cat(own)})["encoded"][: len(rows)]


def crop_boxes(config: Config, trainer: Trainer, train: ShardedSplit) -> CropBoxes | None:
    """Return the boxes of `views.contrastive_crop`, or None without it.

    Raises:
        SettingsError: The encoder has no feature map in which an object can be found.
    """
    settings = config.views.contrastive_crop
    if settings is None:
        return None
    steps = steps_per_epoch(len(train), config.training.global_batch_size)
    if settings.boxes == "center":
        return CropBoxes(settings, steps, search=None, boxes=np.tile(MIDDLE, (len(train), 1)))
    encoder, size, rows = trainer.engine.method.encoder, config.views.image_size, np.arange(len(train))
    map_channels(encoder, size)
    refuse_normalized_maps(encoder)

    def boxes(images: Tensor) -> Tensor:
        return boxes_of_activations(as_map(unpooled(encoder, images), encoder), settings.threshold, size)

    return CropBoxes(settings, steps, lambda: encoded(config, trainer, train, rows, boxes))


def monitor(config: Config, trainer: Trainer, train: ShardedSplit) -> Monitor:
    """Return the function that measures the exported encoder after every `resources.monitor_every_epochs`."""
    every, encoder = config.resources.monitor_every_epochs, trainer.engine.method.exports()["encoder"]
    if every is None:
        return no_monitor
    every_steps = every * steps_per_epoch(len(train), config.training.global_batch_size)
    rows = randomness.permutation(config.seed, "monitor", length=len(train))[: config.resources.monitor_images]

    def monitored(step: int) -> dict[str, float]:
        if step % every_steps:
            return {}
        features = encoded(config, trainer, train, rows, encoder)
        return of_features(features.float(), train.labels[rows])

    return monitored


def of_features(features: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the monitored numbers of features (N, D) with labels (N, L); they are NaN if the features are not finite.

    The second half of the images is classified by the first, in percent, on the finest level.
    """
    half = len(features) // 2
    found = dict.fromkeys(("monitor_feature_std", "monitor_effective_rank"), math.nan)
    if labels.shape[1]:
        found["monitor_knn"] = math.nan
    if not features.isfinite().all():
        return found
    found["monitor_feature_std"] = float(normalized_std(features.double()))
    found["monitor_effective_rank"] = float(effective_rank(features))
    if labels.shape[1]:
        voters, queries = (features[:half], labels[:half, 0]), (features[half:], labels[half:, 0])
        found["monitor_knn"] = weighted_knn(*voters, *queries, neighbors=min(_NEIGHBORS, half))
    return found
