"""BatchNorm in groups of a set number of samples, so that no result depends on how many processes share a batch.

MoCo's shuffled BatchNorm and SyncBatchNorm both let the number of processes into the result; here statistics are
taken over `group_size` consecutive samples of the global batch, and running statistics over all groups.
"""

import contextlib
from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _GroupedBatchNorm(_BatchNorm):
    """In training mode each group of samples is normalized by itself; in evaluation mode nothing differs."""

    def __init__(self, like: _BatchNorm, group_size: int) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, track_running_stats=True)
        if like.affine:
            self.weight, self.bias = like.weight, like.bias
        if like.running_mean is not None:
            self.running_mean, self.running_var = like.running_mean, like.running_var
            self.num_batches_tracked = like.num_batches_tracked
        self.group_size = group_size
        self.moves_running_statistics = True
        self.gathered: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        if len(input) % self.group_size:
            raise ValueError(f"{len(input)} samples are no multiple of the BatchNorm group of {self.group_size}")
        groups = input.split(self.group_size)
        means = self.running_mean.new_zeros(len(groups), self.num_features)  # type: ignore[union-attr]  # (groups, C)
        variances = torch.ones_like(means)
        # Momentum 1 makes each row of the buffers that group's own mean and unbiased variance.
        normalized = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(groups, means, variances, strict=True)
        ]
        if self.moves_running_statistics:
            if self.gathered is None:
                self.move(_sums(means, variances))
            else:
                self.gathered.append((means, variances))
        return normalized[0] if len(normalized) == 1 else torch.cat(normalized)

    def taken(self) -> Tensor:
        """Return (2 C + 1,): sums of the means and variances of all groups since the last call, and their number."""
        assert self.gathered is not None
        if not self.gathered:
            return self.running_mean.new_zeros(2 * self.num_features + 1)  # type: ignore[union-attr]
        means, variances = map(torch.cat, zip(*self.gathered, strict=True))  # (groups, C) each
        self.gathered.clear()
        return _sums(means, variances)

    @torch.no_grad()
    def move(self, sums: Tensor) -> None:
        """Move the running statistics once towards the mean over all groups, from `taken` summed over all shards."""
        moved = sums[-1] > 0
        mean, variance = (sums[:-1] / sums[-1].clamp_min(1)).chunk(2)
        momentum = moved * (0.1 if self.momentum is None else self.momentum)
        self.running_mean.lerp_(mean, momentum.to(mean.dtype))  # type: ignore[union-attr]
        self.running_var.lerp_(variance, momentum.to(mean.dtype))  # type: ignore[union-attr]
        self.num_batches_tracked.add_(moved)  # type: ignore[union-attr]


def _sums(means: Tensor, variances: Tensor) -> Tensor:
    return torch.cat([means.sum(dim=0), variances.sum(dim=0), means.new_tensor([len(means)])])


class GroupedBatchNorm1d(_GroupedBatchNorm):
    _check_input_dim = nn.BatchNorm1d._check_input_dim


class GroupedBatchNorm2d(_GroupedBatchNorm):
    _check_input_dim = nn.BatchNorm2d._check_input_dim


class GroupedBatchNormAct2d(GroupedBatchNorm2d):
    """timm's BatchNorm, dropout and activation under one name (EfficientNet, DenseNet and others)."""

    def __init__(self, like: BatchNormAct2d, group_size: int) -> None:
        super().__init__(like, group_size)
        self.drop, self.act = like.drop, like.act

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def group_batch_norms(module: nn.Module, group_size: int) -> nn.Module:
    """Replace every BatchNorm inside `module`, parameters and buffers kept; state dict keys do not change."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            setattr(module, name, GroupedBatchNorm1d(child, group_size))
        elif type(child) is nn.BatchNorm2d:
            setattr(module, name, GroupedBatchNorm2d(child, group_size))
        elif type(child) is BatchNormAct2d:
            setattr(module, name, GroupedBatchNormAct2d(child, group_size))
        elif isinstance(child, _BatchNorm) and not isinstance(child, _GroupedBatchNorm):
            raise NotImplementedError(f"{name}: {type(child).__name__} cannot be grouped; BatchNorm1d and 2d can")
        else:
            group_batch_norms(child, group_size)
    return module


@contextlib.contextmanager
def frozen_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics as they are in forward passes of `module` (only the views move them)."""
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
    """Within it, forward passes of `module` only gather what moves the running statistics: they move once a step,
    towards the mean over all groups of all shards."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [child for child in module.modules() if isinstance(child, _GroupedBatchNorm)]

    def __enter__(self) -> Self:
        for layer in self._layers:
            layer.gathered = []
        return self

    def __exit__(self, *error: object) -> None:
        for layer in self._layers:
            layer.gathered = None

    def taken(self) -> Tensor:
        """Return (P,) what the passes since the last call gathered, to be added up over shards and processes."""
        return torch.cat([layer.taken() for layer in self._layers]) if self._layers else torch.zeros(0)

    def move(self, sums: Tensor) -> None:
        lengths = [2 * layer.num_features + 1 for layer in self._layers]
        for layer, part in zip(self._layers, sums.split(lengths) if lengths else (), strict=True):
            layer.move(part)
