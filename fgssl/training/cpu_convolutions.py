"""Convolutions that torch computes wrongly in half precision on CPUs, refused before they train on garbage.

Measured with torch 2.15 and its oneDNN on an Intel CPU with AMX, over 7,000 shapes:

- The weight gradient of a padded convolution whose input map is smaller than its stride (3x3, stride 2, padding 1 on a
  1x1 map) is partly uninitialized memory: finite, different each time, and also with `ONEDNN_MAX_CPU_ISA` at AVX2.
- The output of a few convolutions with large kernels, large strides and 4 to 31 input channels is unrelated to their
  input. No rule covers them, so every shape is compared once with fp32.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fgssl.errors import Problem, SettingsError

_LARGEST_ERROR = 0.25
"""Relative to the largest output. Right results differ by at most 0.004, wrong ones by 0.7 or more."""
_IMAGES_COMPARED = 16


def refuse_wrong_convolutions(method: nn.Module, device: torch.device, precision: str) -> None:
    """Check every convolution of `method` when it first meets a shape, so at the sizes and views that training has.

    A wrong one then raises a `SettingsError` during the first step's forward pass. Nothing is checked on GPUs and in
    full precision.
    """
    if device.type != "cpu" or precision not in ("bf16", "fp16"):
        return
    checked: set[tuple[object, ...]] = set()

    def check(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        (images,) = inputs  # (N, C, H, W)
        shape = (images.shape, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        if (*shape, layer.groups) not in checked:
            checked.add((*shape, layer.groups))
            _raise_if_wrong(name, layer, images, precision)

    for name, layer in method.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(partial(check, name))


def _raise_if_wrong(name: str, layer: nn.Conv2d, images: Tensor, precision: str) -> None:
    height, width = images.shape[2:]
    described = f"{name} ({layer.extra_repr()}) on a map of {height} x {width}"
    axes = zip((height, width), layer.stride, layer.padding, strict=False)  # padding may be "same", then stride is 1
    if any(size < stride and padding for size, stride, padding in axes):
        message = (
            f"{precision} on a CPU: {described}, smaller than its stride, for which torch returns an uninitialized "
            "weight gradient: take precision fp32, a larger views.image_size, or an encoder of less stride "
            "(encoder.arguments: {output_stride: 16} on a ResNet)"
        )
    elif not _output_error(layer, images) < _LARGEST_ERROR:
        message = f"{precision} on this CPU: torch computes {described} wrongly: take precision fp32, or a GPU"
    else:
        return
    raise SettingsError([Problem("config", "training.precision", message)])


@torch.no_grad()
def _output_error(layer: nn.Conv2d, images: Tensor) -> float:
    """Largest difference between half and full precision, relative to the largest output.

    Inputs and weights are small integers of the layer's shapes: exact in both precisions, and no state is touched.
    """
    generator = torch.Generator().manual_seed(0)
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    shapes = (
        (min(len(images), _IMAGES_COMPARED), *images.shape[1:]),
        (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size),
    )
    inputs, weights = (
        torch.randint(-2, 3, shape, generator=generator).float().contiguous(memory_format=layout) for shape in shapes
    )
    convolve = partial(conv2d, inputs, weights, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    half = convolve().float()
    with torch.autocast("cpu", enabled=False):
        full = convolve()
    return float((half - full).abs().max() / full.abs().max().clamp(min=1))
