"""Config -> method, with its start weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fgssl import randomness
from fgssl.decoders.build import build_decoder
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.weights import load_weights
from fgssl.errors import Problem, SettingsError
from fgssl.methods.byol import BYOL
from fgssl.methods.cross_entropy import CrossEntropy
from fgssl.methods.decoder_pretraining import DecoderPretraining
from fgssl.methods.hcl import HCL
from fgssl.methods.method import Method
from fgssl.methods.mocov2 import MoCoV2
from fgssl.methods.n_pairs import NPairs
from fgssl.methods.simclr import SimCLR
from fgssl.methods.simsiam import SimSiam
from fgssl.methods.supcon import SupCon
from fgssl.methods.synthesized import Synthesized
from fgssl.settings.config import Config
from fgssl.settings.methods import (
    BYOLSettings,
    CrossEntropySettings,
    DecoderPretrainingSettings,
    HCLSettings,
    MoCoV2Settings,
    NPairsSettings,
    SimCLRSettings,
    SimSiamSettings,
    StartEncoderSettings,
    SupConSettings,
    SynthesizedSettings,
)

Start = dict[str, Path | None]
"""Weights files of `encoder`, `decoder` and `classifier`; None: random."""
RANDOM_START: Start = {"encoder": None, "decoder": None, "classifier": None}


def start_encoder(config: Config, start: Start) -> nn.Module:
    """The encoder that training starts from: weights of `start`, or random ones that are a function of the seed."""
    _seed_torch(config, "encoder")
    encoder = build_encoder(config.encoder, config.views.image_size)
    if start["encoder"] is not None:
        load_weights(encoder, start["encoder"])
    return encoder


def start_decoder(config: Config, start: Start, encoder: nn.Module) -> nn.Module:
    assert config.decoder is not None  # refused when the settings were validated
    _seed_torch(config, "decoder")
    decoder = build_decoder(
        config.decoder, feature_width(encoder), config.views.image_size, config.encoder.batch_norm_group_size
    )
    if start["decoder"] is not None:
        load_weights(decoder, start["decoder"])
    return decoder


@dataclass(frozen=True)
class Parts:
    """What methods are made of."""

    config: Config
    encoder: nn.Module
    start: Start
    classes: tuple[int, ...]
    """Number of classes of each level of the labels, finest first; () where there are none."""

    @property
    def group_size(self) -> int:
        return self.config.encoder.batch_norm_group_size


def build_method(config: Config, start: Start, classes: Sequence[int]) -> Method:
    """The method of `config` on fresh networks, for data with so many `classes` at each level, finest first."""
    encoder = start_encoder(config, start)
    _seed_torch(config, "head")  # alike whatever the encoder drew
    return BUILDERS[type(config.method)](config.method, Parts(config, encoder, start, tuple(classes)))


def _seed_torch(config: Config, network: str) -> None:
    """Start weights of each network from a stream of its own: a function of the seed alone."""
    torch.manual_seed(int(randomness.stream_key(config.seed, f"weights/{network}", ())[0]))


def _cross_entropy(settings: CrossEntropySettings, parts: Parts) -> Method:
    method = CrossEntropy(settings, parts.encoder, parts.classes[settings.level])
    if (file := parts.start["classifier"]) is not None:
        load_weights(method.classifier, file)
    return method


def _synthesized(settings: SynthesizedSettings, parts: Parts) -> Method:
    base = BUILDERS[type(settings.base)](settings.base, parts)
    decoder = start_decoder(parts.config, parts.start, parts.encoder)
    return Synthesized(settings, base, decoder, feature_width(parts.encoder), parts.config.seed)


def _decoder(settings: DecoderPretrainingSettings, parts: Parts) -> Method:
    return DecoderPretraining(parts.encoder, start_decoder(parts.config, parts.start, parts.encoder))


def _start_encoder(settings: StartEncoderSettings, parts: Parts) -> Method:
    raise SettingsError([Problem("config", "method.name", "start_encoder trains nothing")])


BUILDERS: dict[type, Callable[[Any, Parts], Method]] = {
    CrossEntropySettings: _cross_entropy,
    SimCLRSettings: lambda settings, parts: SimCLR(settings, parts.encoder, parts.group_size),
    SupConSettings: lambda settings, parts: SupCon(settings, parts.encoder, parts.group_size),
    HCLSettings: lambda settings, parts: HCL(settings, parts.encoder, parts.group_size),
    NPairsSettings: lambda settings, parts: NPairs(settings, parts.encoder),
    MoCoV2Settings: lambda settings, parts: MoCoV2(settings, parts.encoder, parts.config.seed),
    SimSiamSettings: lambda settings, parts: SimSiam(settings, parts.encoder, parts.group_size),
    BYOLSettings: lambda settings, parts: BYOL(settings, parts.encoder, parts.group_size),
    SynthesizedSettings: _synthesized,
    DecoderPretrainingSettings: _decoder,
    StartEncoderSettings: _start_encoder,
}
"""One line a method."""
