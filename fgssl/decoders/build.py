"""Decoders from features (N, D) to images (N, 3, H, W) of normalized pixels, without output activation."""

import dataclasses

from torch import nn

from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.registries import load_implementation
from fgssl.settings.decoder import DecoderSettings


def build_decoder(settings: DecoderSettings, feature_width: int, image_size: int, group_size: int) -> nn.Module:
    """Return the decoder with random weights, and BatchNorm in groups of `group_size` samples."""
    arguments = dataclasses.asdict(settings)
    del arguments["name"]
    decoder: nn.Module = load_implementation(settings)(feature_width, image_size, **arguments)
    return group_batch_norms(decoder, group_size)
