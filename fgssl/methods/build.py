"""Construction of a method from a config, with its start weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fgssl import randomness
from fgssl.decoders.build import build_decoder
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.feature_maps import map_channels
from fgssl.encoders.weights import load_weights
from fgssl.errors import Problem, SettingsError
from fgssl.heads import projector
from fgssl.methods.method import Method
from fgssl.registries import load_implementation
from fgssl.settings.config import Config
from fgssl.settings.methods import MethodSettings, ProjectedSettings

Start = dict[str, Path | None]
"""Weights files of `encoder`, `decoder` and `classifier`; None for random weights."""
RANDOM_START: Start = {"encoder": None, "decoder": None, "classifier": None}


@dataclass(frozen=True)
class Parts:
    """Parts from which a method is built, as `implementation(settings, parts)`."""

    config: Config
    encoder: nn.Module
    start: Start
    classes: tuple[int, ...]
    """Number of classes at each level of the labels, finest first; empty for unlabeled data."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

    @property
    def feature_width(self) -> int:
        """Width D of the encoder's features."""
        return feature_width(self.encoder)

    @property
    def group_size(self) -> int:
        """Number of samples that share BatchNorm statistics."""
        return self.config.encoder.batch_norm_group_size

    @property
    def map_channels(self) -> int:
        """Channels C of the encoder's feature map; raises a `SettingsError` if it has none of several positions."""
        return map_channels(self.encoder, self.config.views.image_size)

    def method(self, settings: MethodSettings) -> Method:
        """Build the method of `settings` from these parts, with BatchNorm in groups; a method builds its base by it."""
        method: Method = load_implementation(settings)(settings, self)
        group_batch_norms(method, self.group_size)
        return method

    def projector(self, settings: ProjectedSettings) -> nn.Module:
        """Return the projection head of `settings`, from features (N, D) to projections (N, P)."""
        widths = (self.feature_width, settings.hidden_width, settings.projection_width)
        return projector(*widths, settings.head_batch_norm)

    def decoder(self) -> nn.Module:
        """Return the decoder that training starts from, with the weights of `start` or random ones."""
        assert self.config.decoder is not None  # validation of the settings requires it
        _seed_torch(self.config, "decoder")
        image_size = self.config.views.image_size
        decoder = build_decoder(self.config.decoder, self.feature_width, image_size, self.group_size)
        self.load_start("decoder", decoder)
        return decoder

    def load_start(self, role: str, network: nn.Module) -> None:
        """Load the start weights of a role (`encoder`, ...) into its network, if there are any."""
        load_start(self.config, self.start, role, network)


def load_start(config: Config, start: Start, role: str, network: nn.Module) -> None:
    """Load the start weights of a role (`encoder`, ...) into its network, if there are any; print their prefix."""
    if (file := start[role]) is None:
        return
    source = config.start.sources.get(role)
    if prefix := load_weights(network, file, source.prefix if source else None):
        print(f"start.{role}: the weights below the prefix {prefix} of {file}", flush=True)


def start_encoder(config: Config, start: Start) -> nn.Module:
    """Return the encoder that training starts from, with the weights of `start` or random ones, drawn by the seed."""
    _seed_torch(config, "encoder")
    views = config.views
    encoder = build_encoder(
        config.encoder, views.image_size, [recipe.image_size for recipe in views.of_each(views.num_recipes)]
    )
    load_start(config, start, "encoder", encoder)
    return encoder


def build_method(config: Config, start: Start, classes: Sequence[int]) -> Method:
    """Return the method of `config` with its start weights.

    `classes` are the numbers of classes at each level of the labels, finest first. Raises a `SettingsError` if the
    method trains nothing.
    """
    if not config.method.trains:
        raise SettingsError([Problem("config", "method.name", f"{config.method.name} trains nothing")])
    parts = Parts(config, start_encoder(config, start), start, tuple(classes))
    _seed_torch(config, "head")  # so that the head does not depend on the encoder
    return parts.method(config.method)


def _seed_torch(config: Config, network: str) -> None:
    """Set torch's seed for the start weights of a network, which then depend only on the run's seed and its name."""
    torch.manual_seed(int(randomness.stream_key(config.seed, f"weights/{network}", ())[0]))
