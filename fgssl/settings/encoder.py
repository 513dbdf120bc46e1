"""Section `encoder`: the network that is trained."""

from dataclasses import field
from typing import Literal

from pydantic import JsonValue

from fgssl.settings.declare import PositiveInt, settings


@settings
class EncoderSettings:
    """A timm model without its classifier."""

    name: str = "resnet50"
    """Name of the model, one of `timm.list_models()`. ResNet-50 is the encoder of MoCo v2 and Synthesized Pairs."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Further arguments of `timm.create_model`, such as `channels` and `layers` of a small ResNet. `pretrained` and
    positive rates of dropout are rejected: weights come from `start`, and a resumed run could not repeat dropout."""
    stem: Literal["standard", "small_image"] = "standard"
    """First layers of a ResNet. `standard` leaves the model as timm builds it. `small_image` replaces them by a 3x3
    convolution of stride 1 without max-pooling, for images of about 32 pixels (He et al. 2016, the CIFAR-10 form)."""
    frozen: tuple[str, ...] = ()
    """Modules of the timm model that are not trained, such as `[conv1, bn1, layer1]`. They keep their start weights and
    stay in evaluation mode. `[all]` freezes the whole encoder. By default nothing is frozen."""
    batch_norm_group_size: PositiveInt = 32
    """Number of samples that share BatchNorm statistics. Because it is fixed, results do not depend on the number of
    processes. 32 is the share of each GPU in MoCo (256 images on 8 GPUs). It must divide
    `training.global_batch_size`."""
