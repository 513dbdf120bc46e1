"""Triton kernels that normalize all groups of a BatchNorm layer at once on a GPU: three forward, three backward.

They compute the same as `F.batch_norm` group by group, in fp32 whatever the images' type is. Rows are the pixels of a
group's images. Sums over rows are taken in parts that do not overlap, then over the parts: without atomics the bits are
the same every time.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, import-untyped"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = _CHANNELS = 64
"""Number of rows, and of channels, that a program computes at once."""
_MOST_PARTS, _CHANNELS_OF_PARTS = 128, 32
_PROGRAMS = 1024
"""Number of programs that is enough to keep a GPU busy."""


@triton.jit
def _tile(group, rows, channels, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride):
    """Return the offsets (rows, channels) of a group's values, and the mask of those that exist."""
    pixels = group * num_rows + rows
    offsets = (pixels // area).to(tl.int64) * image_stride + (pixels % area) * pixel_stride
    offsets = offsets[:, None] + channels[None, :] * channel_stride
    return offsets, (rows < num_rows)[:, None] & (channels < num_channels)[None, :]


@triton.jit
def _parts(group, channels, num_parts, num_channels, PARTS: tl.constexpr):
    """Return the offsets (PARTS, channels) of the results of a group's parts, and the mask of those that exist."""
    parts = tl.arange(0, PARTS)
    offsets = (group * num_parts + parts)[:, None] * num_channels + channels[None, :]
    return parts, offsets, (parts < num_parts)[:, None] & (channels < num_channels)[None, :]


@triton.jit
def _moments_of_parts(
    images, part_means, part_squares, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride,
    rows_of_part, num_parts, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the mean of a part of a group and the sum of squared distances from it, by channel (Chan et al. 1979)."""
    part, group = tl.program_id(0), tl.program_id(1)
    channels = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    first = part * rows_of_part
    end = tl.minimum(first + rows_of_part, num_rows)
    mean = tl.zeros([CHANNELS], dtype=tl.float32)
    squares = tl.zeros([CHANNELS], dtype=tl.float32)
    for start in range(first, end, ROWS):
        rows = start + tl.arange(0, ROWS)
        offsets, there = _tile(
            group, rows, channels, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride
        )
        values = tl.load(images + offsets, mask=there, other=0.0).to(tl.float32)
        before = (start - first).to(tl.float32)
        more = tl.minimum(end - start, ROWS).to(tl.float32)
        own_mean = tl.sum(values, axis=0) / more
        from_mean = tl.where(there, values - own_mean[None, :], 0.0)
        between = own_mean - mean
        squares += tl.sum(from_mean * from_mean, axis=0) + between * between * (before * more / (before + more))
        mean += between * (more / (before + more))
    at = (group * num_parts + part) * num_channels + channels
    tl.store(part_means + at, mean, mask=channels < num_channels)
    tl.store(part_squares + at, squares, mask=channels < num_channels)


@triton.jit
def _moments(
    part_means, part_squares, means, variances, inverse_stds, num_rows, num_channels, rows_of_part, num_parts, eps,
    PARTS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the mean, the unbiased variance and 1 / standard deviation of a group, by channel."""
    group = tl.program_id(1)
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    parts, offsets, there = _parts(group, channels, num_parts, num_channels, PARTS)
    rows = tl.minimum(num_rows - parts * rows_of_part, rows_of_part).to(tl.float32)[:, None]
    exist = channels < num_channels
    first = tl.load(part_means + group * num_parts * num_channels + channels, mask=exist, other=0.0)
    from_first = tl.where(there, tl.load(part_means + offsets, mask=there, other=0.0) - first[None, :], 0.0)
    mean = tl.sum(from_first * tl.where(there, rows, 0.0), axis=0) / num_rows
    from_mean = from_first - mean[None, :]
    squares = tl.load(part_squares + offsets, mask=there, other=0.0)
    squares = tl.sum(tl.where(there, squares + from_mean * from_mean * rows, 0.0), axis=0)
    at = group * num_channels + channels
    tl.store(means + at, first + mean, mask=exist)
    tl.store(variances + at, squares / (num_rows - 1), mask=exist)
    tl.store(inverse_stds + at, 1.0 / tl.sqrt(squares / num_rows + eps), mask=exist)


@triton.jit
def _normalize(
    images, normalized, means, inverse_stds, weights, biases,
    num_rows, num_channels, area, image_stride, pixel_stride, channel_stride,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the normalized images, scaled by the weights and shifted by the biases."""
    group = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channels = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    exist, at = channels < num_channels, group * num_channels + channels
    mean = tl.load(means + at, mask=exist, other=0.0)
    scale = tl.load(inverse_stds + at, mask=exist, other=0.0) * tl.load(weights + channels, mask=exist, other=0.0)
    bias = tl.load(biases + channels, mask=exist, other=0.0)
    offsets, there = _tile(
        group, rows, channels, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride
    )
    values = tl.load(images + offsets, mask=there, other=0.0).to(tl.float32)
    values = (values - mean[None, :]) * scale[None, :] + bias[None, :]
    tl.store(normalized + offsets, values.to(normalized.dtype.element_ty), mask=there)


@triton.jit
def _gradient_sums_of_parts(
    images, gradients, means, part_sums, part_products,
    num_rows, num_channels, area, image_stride, pixel_stride, channel_stride,
    rows_of_part, num_parts, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sum the output's gradient g and g (x - mean) over a part of a group, by channel."""
    part, group = tl.program_id(0), tl.program_id(1)
    channels = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    exist = channels < num_channels
    mean = tl.load(means + group * num_channels + channels, mask=exist, other=0.0)
    first = part * rows_of_part
    total = tl.zeros([CHANNELS], dtype=tl.float32)
    product = tl.zeros([CHANNELS], dtype=tl.float32)
    for start in range(first, tl.minimum(first + rows_of_part, num_rows), ROWS):
        rows = start + tl.arange(0, ROWS)
        offsets, there = _tile(
            group, rows, channels, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride
        )
        values = tl.load(images + offsets, mask=there, other=0.0).to(tl.float32)
        gradient = tl.load(gradients + offsets, mask=there, other=0.0).to(tl.float32)
        total += tl.sum(gradient, axis=0)
        product += tl.sum(gradient * (values - mean[None, :]), axis=0)
    at = (group * num_parts + part) * num_channels + channels
    tl.store(part_sums + at, total, mask=exist)
    tl.store(part_products + at, product, mask=exist)


@triton.jit
def _gradient_sums(
    part_sums, part_products, inverse_stds, constants, slopes, weight_gradients, bias_gradients,
    num_rows, num_channels, num_groups, num_parts, PARTS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of weights and biases over all groups, and both means that a group's gradient needs."""
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    exist = channels < num_channels
    of_weight = tl.zeros([CHANNELS], dtype=tl.float32)
    of_bias = tl.zeros([CHANNELS], dtype=tl.float32)
    for group in range(0, num_groups):
        _, offsets, there = _parts(group, channels, num_parts, num_channels, PARTS)
        total = tl.sum(tl.load(part_sums + offsets, mask=there, other=0.0), axis=0)
        product = tl.sum(tl.load(part_products + offsets, mask=there, other=0.0), axis=0)
        at = group * num_channels + channels
        inverse_std = tl.load(inverse_stds + at, mask=exist, other=0.0)
        tl.store(constants + at, total / num_rows, mask=exist)
        tl.store(slopes + at, product / num_rows * inverse_std * inverse_std, mask=exist)
        of_weight += product * inverse_std
        of_bias += total
    tl.store(weight_gradients + channels, of_weight, mask=exist)
    tl.store(bias_gradients + channels, of_bias, mask=exist)


@triton.jit
def _image_gradients(
    images, gradients, image_gradients, means, inverse_stds, weights, constants, slopes,
    num_rows, num_channels, area, image_stride, pixel_stride, channel_stride,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Compute (g - mean of g - (x - mean) mean of g (x - mean) / variance) weight / standard deviation."""
    group = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channels = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    exist, at = channels < num_channels, group * num_channels + channels
    mean = tl.load(means + at, mask=exist, other=0.0)
    scale = tl.load(inverse_stds + at, mask=exist, other=0.0) * tl.load(weights + channels, mask=exist, other=0.0)
    constant = tl.load(constants + at, mask=exist, other=0.0)
    slope = tl.load(slopes + at, mask=exist, other=0.0)
    offsets, there = _tile(
        group, rows, channels, num_rows, num_channels, area, image_stride, pixel_stride, channel_stride
    )
    values = tl.load(images + offsets, mask=there, other=0.0).to(tl.float32)
    gradient = tl.load(gradients + offsets, mask=there, other=0.0).to(tl.float32)
    gradient = (gradient - constant[None, :] - (values - mean[None, :]) * slope[None, :]) * scale[None, :]
    tl.store(image_gradients + offsets, gradient.to(image_gradients.dtype.element_ty), mask=there)


class _Layout:
    """Division of images (N, C, ...) into programs, by `groups`; channels are last or first in memory."""

    def __init__(self, images: Tensor, groups: int) -> None:
        self.groups, self.channels = groups, images.shape[1]
        area = images[0, 0].numel()
        self.last = images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last)
        strides = (self.channels, 1) if self.last else (1, area)  # of a pixel, of a channel
        self.rows = len(images) // groups * area
        self.walk = (self.rows, self.channels, area, self.channels * area, *strides)
        tiles, columns = triton.cdiv(self.rows, _ROWS), triton.cdiv(self.channels, _CHANNELS)
        most = min(tiles, _MOST_PARTS, max(1, _PROGRAMS // (groups * columns)))
        self.rows_of_part = triton.cdiv(tiles, most) * _ROWS
        self.parts = triton.cdiv(self.rows, self.rows_of_part)
        self.over_parts, self.over_tiles = (self.parts, groups, columns), (tiles, groups, columns)
        self.columns_of_parts = triton.cdiv(self.channels, _CHANNELS_OF_PARTS)

    def dense(self, images: Tensor) -> Tensor:
        """Return `images` in this memory layout, copied if they have another one."""
        return images.contiguous(memory_format=torch.channels_last if self.last else torch.contiguous_format)


class _GroupedBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> tuple[Tensor, Tensor]:
        layout = _Layout(images, groups)
        images, tile = layout.dense(images), (_ROWS, _CHANNELS)
        part_means, part_squares = images.new_empty(2, groups, layout.parts, layout.channels, dtype=torch.float32)
        moments = part_means.new_empty(2, groups, layout.channels)
        (means, variances), inverse_stds = moments, torch.empty_like(moments[0])
        part = (layout.rows_of_part, layout.parts)
        _moments_of_parts[layout.over_parts](images, part_means, part_squares, *layout.walk, *part, *tile)
        _moments[layout.columns_of_parts, groups](
            part_means, part_squares, means, variances, inverse_stds,
            layout.rows, layout.channels, *part, eps, _MOST_PARTS, _CHANNELS_OF_PARTS,
        )  # fmt: skip
        normalized = torch.empty_like(images)
        _normalize[layout.over_tiles](images, normalized, means, inverse_stds, weight, bias, *layout.walk, *tile)
        ctx.save_for_backward(images, weight, moments, inverse_stds)
        ctx.layout = layout
        ctx.mark_non_differentiable(moments)
        ctx.set_materialize_grads(False)
        return normalized, moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if gradients is None:
            return None, None, None, None, None
        images, weight, (means, _), inverse_stds = ctx.saved_tensors
        layout: _Layout = ctx.layout
        gradients, tile = layout.dense(gradients), (_ROWS, _CHANNELS)
        part_sums, part_products = images.new_empty(
            2, layout.groups, layout.parts, layout.channels, dtype=torch.float32
        )
        constants, slopes = means.new_empty(2, layout.groups, layout.channels)
        of_weight, of_bias = means.new_empty(2, layout.channels)
        _gradient_sums_of_parts[layout.over_parts](
            images, gradients, means, part_sums, part_products, *layout.walk, layout.rows_of_part, layout.parts, *tile
        )
        _gradient_sums[layout.columns_of_parts,](
            part_sums, part_products, inverse_stds, constants, slopes, of_weight, of_bias,
            layout.rows, layout.channels, layout.groups, layout.parts, _MOST_PARTS, _CHANNELS_OF_PARTS,
        )  # fmt: skip
        of_images = torch.empty_like(images)
        _image_gradients[layout.over_tiles](
            images, gradients, of_images, means, inverse_stds, weight, constants, slopes, *layout.walk, *tile
        )
        return of_images, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None


def grouped_batch_norm(
    images: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Return images (N, C, ...) normalized in `groups` of consecutive ones, and the moments of the groups.

    The moments are the means and the unbiased variances, (2, groups, C) in fp32.
    """
    if weight is None or bias is None:
        weight, bias = (fill(images.shape[1], device=images.device) for fill in (torch.ones, torch.zeros))
    normalized, moments = _GroupedBatchNorm.apply(images, weight, bias, groups, eps)
    return normalized, moments
