"""Config -> method, with its start weights."""

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fgssl import randomness
from fgssl.decoders.build import build_decoder
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.weights import load_weights
from fgssl.errors import Problem, SettingsError
from fgssl.heads import projector
from fgssl.methods.method import Method
from fgssl.settings.config import Config
from fgssl.settings.methods import MethodSettings, ProjectedSettings

Start = dict[str, Path | None]
"""Weights files of `encoder`, `decoder` and `classifier`; None: random."""
RANDOM_START: Start = {"encoder": None, "decoder": None, "classifier": None}


@dataclass(frozen=True)
class Parts:
    """Parts of a method, which is built as `implementation(settings, parts)`."""

    config: Config
    encoder: nn.Module
    start: Start
    classes: tuple[int, ...]
    """Number of classes of each level of the labels, finest first; () where there are none."""

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def feature_width(self) -> int:
        """Width D of the encoder's features."""
        return feature_width(self.encoder)

    @property
    def group_size(self) -> int:
        """Samples that share BatchNorm statistics."""
        return self.config.encoder.batch_norm_group_size

    def method(self, settings: MethodSettings) -> Method:
        """Return the method of `settings` on these parts, such as the base of another method."""
        method: Method = pkgutil.resolve_name(settings.implementation)(settings, self)
        return method

    def projector(self, settings: ProjectedSettings) -> nn.Module:
        """Return the head of `settings`: (N, D) -> (N, P)."""
        widths = (self.feature_width, settings.hidden_width, settings.projection_width)
        return group_batch_norms(projector(*widths, settings.head_batch_norm), self.group_size)

    def decoder(self) -> nn.Module:
        """Return the decoder that training starts from: weights of `start`, or random ones."""
        assert self.config.decoder is not None  # refused when the settings were validated
        _seed_torch(self.config, "decoder")
        image_size = self.config.views.image_size
        decoder = build_decoder(self.config.decoder, self.feature_width, image_size, self.group_size)
        self.load_start("decoder", decoder)
        return decoder

    def load_start(self, role: str, network: nn.Module) -> None:
        """Load the weights that the network of this role (`encoder`, ...) starts from, if there are any."""
        if (file := self.start[role]) is not None:
            load_weights(network, file)


def start_encoder(config: Config, start: Start) -> nn.Module:
    """Return the encoder that training starts from: weights of `start`, or random ones, a function of the seed."""
    _seed_torch(config, "encoder")
    views = config.views
    encoder = build_encoder(
        config.encoder, views.image_size, [recipe.image_size for recipe in views.of_each(views.num_recipes)]
    )
    if start["encoder"] is not None:
        load_weights(encoder, start["encoder"])
    return encoder


def build_method(config: Config, start: Start, classes: Sequence[int]) -> Method:
    """Return the method of `config` on fresh networks, for data with so many `classes` at each level, finest first."""
    if not config.method.trains:
        raise SettingsError([Problem("config", "method.name", f"{config.method.name} trains nothing")])
    parts = Parts(config, start_encoder(config, start), start, tuple(classes))
    _seed_torch(config, "head")  # alike whatever the encoder drew
    return parts.method(config.method)


def _seed_torch(config: Config, network: str) -> None:
    """Draw the start weights of each network from a stream of its own: a function of the seed alone."""
    torch.manual_seed(int(randomness.stream_key(config.seed, f"weights/{network}", ())[0]))
