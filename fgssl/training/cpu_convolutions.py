"""Check for convolutions that torch computes wrongly in half precision on CPUs.

Two faults were measured over 7,000 shapes with torch 2.15 and its oneDNN on an Intel CPU with AMX:

- The weight gradient of a padded convolution whose input map is smaller than its stride (3x3, stride 2, padding 1 on a
  1x1 map) is partly uninitialized memory: finite, different each time, and also with `ONEDNN_MAX_CPU_ISA` at AVX2.
- The output of a few convolutions with large kernels, large strides and 4 to 31 input channels is unrelated to their
  input. No rule covers them, so every shape is compared once with fp32.
"""

from functools import partial

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fgssl.errors import Problem, SettingsError

_LARGEST_ERROR = 0.25
"""Largest accepted error, relative to the largest output. Right results differ by at most 0.004, wrong ones by 0.7 or
more."""
_IMAGES_COMPARED = 16
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PADDED_IN_FORWARD = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)


def refuse_wrong_convolutions(method: nn.Module, device: torch.device, precision: str) -> None:
    """Make every convolution of `method` check each new input shape, at the sizes that training has.

    A convolution that is computed wrongly raises a `SettingsError` in the forward pass of the first step. Nothing is
    checked on GPUs or in full precision.
    """
    if device.type != "cpu" or precision not in _HALF:
        return
    checked: set[tuple[object, ...]] = set()

    def check(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        (images,) = inputs  # (N, C, H, W)
        if isinstance(layer, _PADDED_IN_FORWARD) and getattr(layer, "same_pad", True):
            images = pad_same(images, list(layer.kernel_size), list(layer.stride), list(layer.dilation))
        kind = (layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
        met = (images.shape, *kind, layer.weight.requires_grad)  # a target network has no weight gradient to check
        if met not in checked:
            checked.add(met)
            _raise_if_wrong(name, layer, images, precision)

    for name, layer in method.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(partial(check, name))


def _raise_if_wrong(name: str, layer: nn.Conv2d, images: Tensor, precision: str) -> None:
    height, width = images.shape[2:]
    described = f"{name} ({layer.extra_repr()}) on a map of {height} x {width}"
    axes = zip((height, width), layer.stride, layer.padding, strict=False)  # padding may be "same"; stride is 1 then
    if layer.weight.requires_grad and any(size < stride and padding for size, stride, padding in axes):
        message = (
            f"{precision} on a CPU: {described}, smaller than its stride, for which torch returns an uninitialized "
            "weight gradient: take precision fp32, a larger views.image_size, or an encoder of less stride "
            "(encoder.arguments: {output_stride: 16} on a ResNet)"
        )
    elif not _output_error(layer, images, _HALF[precision]) < _LARGEST_ERROR:
        message = f"{precision} on this CPU: torch computes {described} wrongly: take precision fp32, or a GPU"
    else:
        return
    raise SettingsError([Problem("config", "training.precision", message)])


@torch.no_grad()
def _output_error(layer: nn.Conv2d, images: Tensor, dtype: torch.dtype) -> float:
    """Return the largest difference between half (`dtype`) and full precision, relative to the largest output.

    Inputs and weights are small integers in the layer's shapes and layouts, which are exact in both precisions. The
    layer itself is not used, so no state changes.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, weights = (
        torch.randint(-2, 3, shape, generator=generator).float().contiguous(memory_format=_layout(like))
        for shape, like in (
            ((min(len(images), _IMAGES_COMPARED), *images.shape[1:]), images),
            (layer.weight.shape, layer.weight),
        )
    )
    convolve = partial(conv2d, inputs, weights, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    with torch.autocast("cpu", dtype):
        half = convolve().float()
    with torch.autocast("cpu", enabled=False):
        full = convolve()
    return float((half - full).abs().max() / full.abs().max().clamp(min=1))


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
