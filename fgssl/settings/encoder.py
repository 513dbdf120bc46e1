"""Which encoder is trained."""

from dataclasses import field
from typing import Literal

from pydantic import JsonValue

from fgssl.settings.declare import PositiveInt, settings


@settings
class EncoderSettings:
    """A timm model by name, without its classifier."""

    name: str = "resnet50"
    """A name of `timm.list_models()`."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Further arguments of `timm.create_model`, e.g. `channels` and `layers` of a small ResNet."""
    stem: Literal["standard", "small_image"] = "standard"
    """`small_image`: 3x3 first convolution of stride 1, no max-pooling (ResNets, for images of about 32 px)."""
    frozen: tuple[str, ...] = ()
    """Modules of the timm model that keep their start weights and stay in evaluation mode, e.g. [conv1, bn1, layer1];
    [all] is the whole encoder."""
    batch_norm_group_size: PositiveInt = 32
    """Samples that share BatchNorm statistics, whatever the number of processes."""
