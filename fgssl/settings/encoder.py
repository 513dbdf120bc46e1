"""Section `encoder`: the network that is trained."""

import functools
from dataclasses import field
from importlib.metadata import version
from typing import Literal

from pydantic import JsonValue

from fgssl.settings.declare import PositiveInt, faulty_keys, settings
from fgssl.settings.model_arguments import ARGUMENTS, TIMM

_OF_TIMM = frozenset(
    {
        *("model_name", "num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
        *("cache_dir", "scriptable", "exportable", "no_jit"),
    }
)
"""Arguments of `timm.create_model` itself, of which some would load weights past `start`."""


@settings
class EncoderSettings:
    """A timm model without its classifier."""

    name: str = "resnet50"
    """Name of the model, one of `timm.list_models()`. ResNet-50 is the encoder of MoCo v2 and Synthesized Pairs."""
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    """Further arguments of the network, such as `channels` and `layers` of a small ResNet; null takes timm's default.
    `pretrained` and the like and positive rates of dropout are rejected: weights come from `start`, and a resumed run
    could not repeat dropout."""
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

    def __post_init__(self) -> None:
        faults = {name: fault for name in self.arguments if (fault := self._fault(name)) is not None}
        if faults:
            raise faulty_keys("arguments", self.arguments, faults)

    def _fault(self, name: str) -> str | None:
        """Return the message about an argument that the model does not take, as far as that is known without timm."""
        from fgssl.settings.validation import unknown  # which imports what declares settings

        model = self.name.partition(".")[0]
        if name in _OF_TIMM:
            return "is not supported: give arguments of the network only; weights come from start.encoder.file"
        if not name.isidentifier():
            return f"{name!r} is not allowed: give the name of an argument of {model}"
        known = ARGUMENTS.get(model, "").split()
        if known and name not in known and _timm() == TIMM:
            return unknown(name, known, what=f"argument of {model}")
        return None


@functools.cache
def _timm() -> str:
    return version("timm")
