"""The kernels of grouped BatchNorm against `F.batch_norm`, group by group. argv: the device.

On a CPU in a process of its own, with TRITON_INTERPRET=1 from its start.
"""

import itertools
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fgssl.encoders import batch_norm, batch_norm_kernels
from fgssl.encoders.batch_norm_kernels import grouped_batch_norm

SHAPES = ((24, 3), (16, 130), (8, 5, 3, 7), (8, 70, 9, 9), (24, 70, 1, 1))
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
Result = tuple[Tensor, ...]


def check_all(device: str) -> None:
    with torch.no_grad():  # as in the pass that first asks for the kernels
        batch_norm._check(batch_norm_kernels, device)
    check_refuses_wrong_results(device)
    check_first_pass_that_is_computed_again(device)
    cases = list(itertools.product(SHAPES, (1, 2, 4), (True, False)))
    for number, (shape, groups, channels_last) in enumerate(cases if device == "cuda" else cases[::4]):
        dtype = list(TOLERANCES)[number % 3] if len(shape) == 4 else torch.float32
        check(shape, groups, channels_last, dtype, number % 5 != 0, device)
    for dtype in TOLERANCES:
        check((4, 6, 30, 33), 2, True, dtype, True, device)
    check_far_from_zero(device)
    check_equal_bits(device)


def check(
    shape: tuple[int, ...], groups: int, channels_last: bool, dtype: torch.dtype, affine: bool, device: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=generator) * 3 + 1
    images, weight, bias, gradient = (
        values.to(device)
        for values in (
            images.to(dtype),
            torch.randn(shape[1], generator=generator),
            torch.randn(shape[1], generator=generator),
            torch.randn(shape, generator=generator).to(dtype),
        )
    )
    if len(shape) == 4 and channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    given = (weight, bias) if affine else ()
    tolerance = TOLERANCES[dtype]
    names = ("normalized", "means", "variances", "image gradient", "weight gradient", "bias gradient")
    found, expected = kernels(images, given, gradient, groups), reference(images, given, gradient, groups)
    assert found[0].stride() == images.stride()
    for name, one, other in zip(names, found, expected, strict=False):
        assert one.dtype == other.dtype, (name, shape, groups, dtype)
        one, other = one.detach().double(), other.detach().double()
        scale, worst = float(other.abs().max()), float((one - other).abs().max())
        assert worst <= tolerance * scale, (name, shape, groups, channels_last, dtype, worst, scale)


def kernels(images: Tensor, given: tuple[Tensor, ...], gradient: Tensor, groups: int) -> Result:
    images, *parameters = (values.detach().clone().requires_grad_() for values in (images, *given))
    weight, bias = parameters or (None, None)
    normalized, (means, variances) = grouped_batch_norm(images, weight, bias, groups, 1e-5)
    return normalized, means, variances, *torch.autograd.grad(normalized, [images, *parameters], gradient)


def reference(images: Tensor, given: tuple[Tensor, ...], gradient: Tensor, groups: int) -> Result:
    """In double precision on the CPU."""
    images, *parameters = (values.detach().cpu().double().requires_grad_() for values in (images, *given))
    parts = images.split(len(images) // groups)
    weight, bias = parameters or (None, None)
    means = torch.zeros(groups, images.shape[1], dtype=torch.float64)
    variances = torch.ones_like(means)
    normalized = torch.cat(
        [
            F.batch_norm(part, mean, variance, weight, bias, True, 1.0, 1e-5)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
    )
    gradients = torch.autograd.grad(normalized, [images, *parameters], gradient.cpu().double())
    dtypes = (gradient.dtype, torch.float32, torch.float32, gradient.dtype, torch.float32, torch.float32)
    results = (normalized, means, variances, *gradients)
    return tuple(values.to(gradient.device, dtype) for values, dtype in zip(results, dtypes, strict=False))


def check_far_from_zero(device: str) -> None:
    """Squares of the values would drown their variance in single precision."""
    images = (torch.randn(4, 5, 20, 20, generator=torch.Generator().manual_seed(0)) * 0.1 + 100).to(device)
    _, (means, variances) = grouped_batch_norm(images, None, None, 2, 1e-5)
    each = images.double().view(2, 2, 5, 400).transpose(1, 2).flatten(2)
    torch.testing.assert_close(means.double(), each.mean(dim=2), rtol=1e-6, atol=0)
    torch.testing.assert_close(variances.double(), each.var(dim=2), rtol=1e-4, atol=0)


def check_refuses_wrong_results(device: str) -> None:
    """A kernel that a compiler gets wrong is not used."""

    class Wrong:
        @staticmethod
        def grouped_batch_norm(images: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor]:
            normalized, moments = grouped_batch_norm(images, *given, **named)
            return normalized * 1.01, moments

    try:
        batch_norm._check(Wrong, device)  # type: ignore[arg-type]
    except AssertionError:
        return
    raise AssertionError("wrong results were taken")


def check_first_pass_that_is_computed_again(device: str) -> None:
    """Check the kernels where the first layer that asks for them lies in a block whose feature maps are dropped."""

    class Layer(batch_norm.GroupedBatchNorm2d):
        def _fits_kernels(self, input: Tensor) -> bool:
            return True

    batch_norm._kernels.cache_clear()
    batch_norm._check.__wrapped__.__defaults__ = (device,)  # type: ignore[attr-defined]
    block = nn.Sequential(nn.Conv2d(2, 3, 1), Layer(nn.BatchNorm2d(3), 4), nn.ReLU()).to(device)
    images = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(0)).to(device)
    gradients = []
    for again in (True, False):
        block.zero_grad()
        result = checkpoint(block, images, use_reentrant=False) if again else block(images)
        assert isinstance(result, Tensor)
        result.square().sum().backward()
        gradients.append([parameter.grad for parameter in block.parameters()])
    assert batch_norm._kernels() is batch_norm_kernels
    torch.testing.assert_close(*gradients)


def check_equal_bits(device: str) -> None:
    images = torch.randn(4, 70, 20, 20, device=device).contiguous(memory_format=torch.channels_last)
    weight, bias, gradient = torch.randn(70, device=device), torch.randn(70, device=device), torch.randn_like(images)
    one, other = (kernels(images, (weight, bias), gradient, 2) for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


if __name__ == "__main__":
    check_all(sys.argv[1])
