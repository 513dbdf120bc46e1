"""BatchNorm in groups of a fixed number of samples, so that no result depends on the number of processes.

With MoCo's shuffled BatchNorm and with SyncBatchNorm the result depends on how many processes share a batch. Here
statistics are taken over `group_size` consecutive samples of the global batch, and running statistics over all groups.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Self

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _GroupedBatchNorm(_BatchNorm):
    """BatchNorm that normalizes each group of samples by itself in training mode; evaluation mode is unchanged."""

    def __init__(self, like: _BatchNorm, group_size: int) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, track_running_stats=True)
        if like.affine:
            self.weight, self.bias = like.weight, like.bias
        if like.running_mean is not None:
            self.running_mean, self.running_var = like.running_mean, like.running_var
            self.num_batches_tracked = like.num_batches_tracked
        self.group_size = group_size
        self.moves_running_statistics = True
        self.gathered: list[Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        if len(input) % self.group_size:
            raise ValueError(f"{len(input)} samples: must be a multiple of the BatchNorm group of {self.group_size}")
        normalized, moments = self._in_groups(input)
        if self.moves_running_statistics:
            if self.gathered is None:
                alone = RunningStatistics(self)
                self.gathered = [moments]
                alone.move(alone.taken())
                self.gathered = None
            else:
                self.gathered.append(moments)
        return normalized

    def _in_groups(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return `input` normalized in groups, and the groups' means and unbiased variances (2, groups, C)."""
        number = len(input) // self.group_size
        if number > 1 and self._fits_kernels(input) and (kernels := _kernels()) is not None:
            return kernels.grouped_batch_norm(input, self.weight, self.bias, number, self.eps)
        groups = input.split(self.group_size)
        moments = torch.ones(2, number, self.num_features, dtype=self._dtype, device=input.device)
        means, variances = moments
        # With momentum 1 each row of the buffers becomes its group's mean and unbiased variance.
        normalized = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(groups, means, variances, strict=True)
        ]
        return normalized[0] if number == 1 else torch.cat(normalized), moments

    def taken(self) -> Tensor:
        """Return and clear the means and variances (2, groups, C) of all groups since the last call."""
        assert self.gathered is not None
        if not self.gathered:
            return torch.empty(2, 0, self.num_features, dtype=self._dtype, device=self.running_mean.device)  # type: ignore[union-attr]
        moments = self.gathered[0] if len(self.gathered) == 1 else torch.cat(self.gathered, dim=1)
        self.gathered.clear()
        return moments

    def _fits_kernels(self, input: Tensor) -> bool:
        single = torch.float64 not in (input.dtype, self._dtype)
        values_of_group = input[: self.group_size, 0].numel()
        return input.is_cuda and single and values_of_group > 1 and not torch.compiler.is_compiling()

    @property
    def _dtype(self) -> torch.dtype:
        return self.running_mean.dtype  # type: ignore[union-attr]


@functools.cache
def _kernels() -> ModuleType | None:
    """Return the module of GPU kernels, or None, with a warning, if they cannot be used.

    They are used once their results on this device agree with `F.batch_norm`.
    """
    try:
        from fgssl.encoders import batch_norm_kernels

        # The first pass may be under no_grad, autocast, and the hooks of a block whose feature maps are computed again.
        unhooked = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
        with torch.autocast("cuda", enabled=False), unhooked:
            _check(batch_norm_kernels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no triton, no C compiler, no folder for its cache, wrong results, ...
        print(
            f"WARNING: BatchNorm takes its groups one by one, which makes steps slower, since triton cannot be used: "
            f"{type(error).__name__}: {error}",
            file=sys.stderr,
        )
        return None
    return batch_norm_kernels


@torch.enable_grad()
def _check(kernels: ModuleType, device: str = "cuda") -> None:
    """Raise an `AssertionError` if the kernels' results or gradients differ from those of `F.batch_norm`."""
    numbers = torch.arange(8 * 3 * 5 * 7, dtype=torch.float32, device=device).view(8, 3, 5, 7)
    weight, bias = (torch.full((3,), value, device=device, requires_grad=True) for value in (1.5, 0.5))
    for dtype, layout, tolerance in (
        (torch.float32, torch.contiguous_format, 1e-3),
        (torch.bfloat16, torch.channels_last, 5e-2),
    ):
        images, gradient = (
            values.to(dtype).contiguous(memory_format=layout) for values in (numbers.sin(), numbers.cos())
        )
        images.requires_grad_()
        at_once, moments = kernels.grouped_batch_norm(images, weight, bias, groups=2, eps=1e-5)
        expected_moments = torch.ones_like(moments)
        one_by_one = torch.cat(
            [
                F.batch_norm(group, mean, variance, weight, bias, True, 1.0, 1e-5)
                for group, mean, variance in zip(images.split(4), *expected_moments, strict=True)
            ]
        )
        for found, expected in zip(
            (at_once, moments, *torch.autograd.grad(at_once, (images, weight, bias), gradient)),
            (one_by_one, expected_moments, *torch.autograd.grad(one_by_one, (images, weight, bias), gradient)),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class GroupedBatchNorm1d(_GroupedBatchNorm):
    """Grouped `nn.BatchNorm1d`."""

    _check_input_dim = nn.BatchNorm1d._check_input_dim


class GroupedBatchNorm2d(_GroupedBatchNorm):
    """Grouped `nn.BatchNorm2d`."""

    _check_input_dim = nn.BatchNorm2d._check_input_dim


class GroupedBatchNormAct2d(GroupedBatchNorm2d):
    """Grouped `BatchNormAct2d` of timm (EfficientNet, DenseNet): BatchNorm, dropout and activation in one."""

    def __init__(self, like: BatchNormAct2d, group_size: int) -> None:
        super().__init__(like, group_size)
        self.drop, self.act = like.drop, like.act

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation of the normalized `input`, after dropout."""
        return self.act(self.drop(super().forward(input)))


def group_batch_norms(module: nn.Module, group_size: int) -> nn.Module:
    """Replace every BatchNorm inside `module` by a grouped one, and return `module`.

    Parameters, buffers and the keys of the state dict stay. Raises a `NotImplementedError` for other types of
    BatchNorm, and for a momentum of None, which means a cumulative average.
    """
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and child.momentum is None:
            raise NotImplementedError(f"{name}: a BatchNorm whose momentum is None cannot be grouped: give it a number")
        if type(child) is nn.BatchNorm1d:
            setattr(module, name, GroupedBatchNorm1d(child, group_size))
        elif type(child) is nn.BatchNorm2d:
            setattr(module, name, GroupedBatchNorm2d(child, group_size))
        elif type(child) is BatchNormAct2d:
            setattr(module, name, GroupedBatchNormAct2d(child, group_size))
        elif isinstance(child, _BatchNorm) and not isinstance(child, _GroupedBatchNorm):
            raise NotImplementedError(
                f"{name}: {type(child).__name__} cannot be grouped: must be a BatchNorm1d, a BatchNorm2d or timm's "
                "BatchNormAct2d"
            )
        else:
            group_batch_norms(child, group_size)
    return module


@contextlib.contextmanager
def frozen_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of `module` unchanged in forward passes within this context."""
    layers = [child for child in module.modules() if isinstance(child, _GroupedBatchNorm)]
    before = [layer.moves_running_statistics for layer in layers]
    for layer in layers:
        layer.moves_running_statistics = False
    try:
        yield
    finally:
        for layer, moves in zip(layers, before, strict=True):
            layer.moves_running_statistics = moves


class RunningStatistics:
    """Context in which forward passes of `module` only collect the statistics of their groups.

    The running statistics are updated once per step by `move`, towards the mean over all groups of all shards. All
    layers are updated together, since one by one they would keep a GPU waiting.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = [child for child in module.modules() if isinstance(child, _GroupedBatchNorm)]
        self._widths = [layer.num_features for layer in self._layers]

    def __enter__(self) -> Self:
        for layer in self._layers:
            layer.gathered = []
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._layers:
            layer.gathered = None

    def taken(self) -> Tensor:
        """Return sums (3 C,) over the groups since the last call, to be added up over shards and processes.

        For each channel of each layer they are the sums of the means and of the variances, and the number of groups.
        """
        if not self._layers:
            return torch.zeros(0)
        moments = [layer.taken() for layer in self._layers]
        sums: dict[int, Tensor] = {}
        for number in {values.shape[1] for values in moments}:  # one in general, and 0 for networks that did not run
            alike = [index for index, values in enumerate(moments) if values.shape[1] == number]
            added = torch.cat([moments[index] for index in alike], dim=2).sum(dim=1)
            added = torch.cat([added, torch.full_like(added[:1], number)])  # (3, C of all of these)
            sums |= zip(alike, added.split([self._widths[index] for index in alike], dim=1), strict=True)
        return torch.cat([sums[index] for index in range(len(moments))], dim=1).flatten()

    @torch.no_grad()
    def move(self, sums: Tensor) -> None:
        """Update the running statistics once towards the mean over all groups, from `taken` summed over all shards."""
        if not self._layers:
            return
        means, variances, numbers = sums.view(3, -1)
        divisors = numbers.clamp_min(1)
        moved = (numbers > 0).to(sums.dtype).split(self._widths)
        momenta: list[float] = [layer.momentum for layer in self._layers]  # type: ignore[misc]
        weights = torch._foreach_mul(moved, momenta)
        for name, moments in (("running_mean", means), ("running_var", variances)):
            running = [getattr(layer, name) for layer in self._layers]
            torch._foreach_lerp_(running, (moments / divisors).split(self._widths), weights)
        counts: list[Tensor] = [layer.num_batches_tracked for layer in self._layers]  # type: ignore[misc]
        torch._foreach_add_(counts, [part[0] for part in (numbers > 0).long().split(self._widths)])
