"""Config -> method, with its start weights."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fgssl import randomness
from fgssl.config import Config
from fgssl.decoders.build import build_decoder
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.encoders.weights import load_weights
from fgssl.errors import Problem, SettingsError
from fgssl.methods.decoder_pretraining import DecoderPretraining
from fgssl.methods.method import Method
from fgssl.methods.mocov2 import MoCoV2
from fgssl.methods.settings import (
    DecoderPretrainingSettings,
    MoCoV2Settings,
    SynthesizedSettings,
    UntouchedSettings,
)
from fgssl.methods.synthesized import Synthesized

Start = dict[str, Path | None]
"""Weights files of `encoder` and `decoder`; None: random."""
RANDOM_START: Start = {"encoder": None, "decoder": None}


def start_encoder(config: Config, start: Start) -> nn.Module:
    """The encoder that training starts from: weights of `start`, or random ones that are a function of the seed."""
    _seed_torch(config, "encoder")
    encoder = build_encoder(config.encoder)
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


def build_method(config: Config, start: Start) -> Method:
    """The method of `config` on fresh networks."""
    encoder = start_encoder(config, start)
    _seed_torch(config, "head")  # alike whatever the encoder drew
    return BUILDERS[type(config.method)](config, config.method, encoder, start)


def _seed_torch(config: Config, network: str) -> None:
    """Start weights of each network from a stream of its own: a function of the seed alone."""
    torch.manual_seed(int(randomness.stream_key(config.seed, f"weights/{network}", ())[0]))


def _mocov2(config: Config, settings: MoCoV2Settings, encoder: nn.Module, start: Start) -> Method:
    return MoCoV2(settings, encoder, config.seed)


def _synthesized(config: Config, settings: SynthesizedSettings, encoder: nn.Module, start: Start) -> Method:
    base = BUILDERS[type(settings.base)](config, settings.base, encoder, start)
    decoder = start_decoder(config, start, encoder)
    return Synthesized(settings, base, decoder, feature_width(encoder), config.seed)


def _decoder(config: Config, settings: DecoderPretrainingSettings, encoder: nn.Module, start: Start) -> Method:
    return DecoderPretraining(encoder, start_decoder(config, start, encoder))


def _untouched(config: Config, settings: UntouchedSettings, encoder: nn.Module, start: Start) -> Method:
    raise SettingsError([Problem("config", "method.name", "untouched trains nothing")])


BUILDERS: dict[type, Callable[..., Method]] = {
    MoCoV2Settings: _mocov2,
    SynthesizedSettings: _synthesized,
    DecoderPretrainingSettings: _decoder,
    UntouchedSettings: _untouched,
}
"""One line a method."""
