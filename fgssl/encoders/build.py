"""A timm model without its classifier: image (N, C, H, W) -> feature (N, D)."""

from typing import Any

import timm
from torch import nn

from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.encoders.settings import EncoderSettings
from fgssl.errors import Problem, SettingsError
from fgssl.validation import unknown


def build_encoder(settings: EncoderSettings) -> nn.Module:
    """Random weights; BatchNorm in groups. Raises a `SettingsError` for an unknown name or unfit arguments."""
    if not timm.is_model(settings.name):
        raise SettingsError([Problem("config", "encoder.name", _unknown_name(settings.name))])
    arguments: dict[str, Any] = {**settings.arguments}
    try:
        encoder = timm.create_model(settings.name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        message = f"timm.create_model({settings.name!r}, {settings.arguments}) refuses them: {error}"
        raise SettingsError([Problem("config", "encoder.arguments", message)]) from error
    if random_layers := _random_layers(encoder):
        message = (
            f"{settings.name} draws random numbers in training ({', '.join(random_layers[:3])}), which no resumed run "
            "could repeat: set drop_rate, drop_path_rate and the like to 0 in encoder.arguments"
        )
        raise SettingsError([Problem("config", "encoder.arguments", message)])
    if settings.stem == "small_image":
        small_image_stem(encoder)
    try:
        return group_batch_norms(encoder, settings.batch_norm_group_size)
    except NotImplementedError as error:
        raise SettingsError([Problem("config", "encoder.name", f"{settings.name}: {error}")]) from error


def small_image_stem(encoder: nn.Module) -> None:
    """A ResNet's first convolution becomes 3x3 of stride 1, its max-pooling goes (He et al. 2016, CIFAR-10 form)."""
    if not (isinstance(getattr(encoder, "conv1", None), nn.Conv2d) and hasattr(encoder, "maxpool")):
        message = f"small_image fits ResNets with one first convolution, not {type(encoder).__name__}: take standard"
        raise SettingsError([Problem("config", "encoder.stem", message)])
    old = encoder.conv1
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    encoder.conv1 = new
    encoder.maxpool = nn.Identity()


def feature_width(encoder: nn.Module) -> int:
    """D of the encoder's features."""
    return int(encoder.num_features)  # type: ignore[arg-type]


def _random_layers(encoder: nn.Module) -> list[str]:
    """Layers with active dropout or stochastic depth."""
    return [
        name
        for name, layer in encoder.named_modules()
        if (isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p) or getattr(layer, "drop_prob", None)
    ]


def _unknown_name(name: str) -> str:
    return unknown(name, timm.list_models(), what="model").split("allowed:")[0] + "allowed: timm.list_models()"
