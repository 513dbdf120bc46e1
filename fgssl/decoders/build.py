"""Decoders: feature (N, D) -> image (N, 3, H, W) of normalized pixels, no output activation."""

from torch import nn

from fgssl.decoders.light import light_decoder
from fgssl.decoders.mirrored_resnet50 import mirrored_resnet50_decoder
from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.settings.decoder import DecoderSettings, LightDecoderSettings


def build_decoder(settings: DecoderSettings, feature_width: int, image_size: int, group_size: int) -> nn.Module:
    """Random weights; BatchNorm in groups of `group_size` samples."""
    if isinstance(settings, LightDecoderSettings):
        decoder = light_decoder(feature_width, image_size, settings.width)
    else:
        decoder = mirrored_resnet50_decoder(feature_width, image_size)
    return group_batch_norms(decoder, group_size)
