"""Method that uses all views of the recipes: all of them online, and the first two as targets, as in DINO."""

import copy
import itertools
from typing import Literal

import torch
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Embeddings, Output
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.methods.build import Parts
from fgssl.methods.ema import update_ema
from fgssl.methods.method import Method
from fgssl.schedules import Schedule
from fgssl.settings.declare import settings
from fgssl.settings.methods import MethodSettings

RECIPES = (
    "views.recipes=[{crop_area: [0.25, 1.0], blur_probability: 1.0}, {crop_area: [0.25, 1.0], blur_probability: 0.1, "
    "solarize_probability: 0.2}, {count: 3, crop_area: [0.05, 0.25], image_size: 8}]"
)
"""Override for two large views with different colors and three small ones."""


@settings
class MultiCropSettings(MethodSettings):
    implementation = "tests.multi_crop:MultiCrop"
    num_views = None
    has_target_network = True

    name: Literal["multi_crop"] = "multi_crop"


class MultiCrop(Method):
    target_views = (0, 1)

    def __init__(self, settings: MultiCropSettings, parts: Parts) -> None:
        super().__init__()
        self.online_views = tuple(range(parts.config.views.num_recipes))
        self.encoder = parts.encoder
        self.head = group_batch_norms(nn.Sequential(nn.Linear(parts.feature_width, 8), nn.BatchNorm1d(8)), 4)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)
        self.sizes: set[tuple[int, ...]] = set()

    @torch.no_grad()
    def target(self, *views: Tensor) -> Tensor:
        return torch.cat([self.target_head(self.target_encoder(view)) for view in views], dim=1)  # (N, 2P)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        self.sizes.add(tuple(view.shape[-1] for view in batch.views))
        return {str(number): self.head(self.encoder(view)) for number, view in enumerate(batch.views)}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        assert target is not None
        sharpness = Schedule(1.0, end=2.0, shape="linear").at(progress)
        pairs = itertools.product(enumerate(online.values()), enumerate(target.chunk(2, dim=1)))
        crossed = [losses.negative_cosine(one, other) for (view, one), (place, other) in pairs if view != place]
        return Output(sharpness * torch.stack(crossed).mean(), {})

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        momentum = Schedule(0.9, end=1.0).at(progress)
        update_ema(self.encoder, self.target_encoder, momentum)
        update_ema(self.head, self.target_head, momentum)
