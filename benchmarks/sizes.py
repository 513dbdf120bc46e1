"""Traffic and memory of a method's step: counted in a real step on two images, with formulas for more processes."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.step import CLASSES, Watched, config_with, made_up, make_trainer, train_one_step
from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World
from fgssl.methods.hcl import HCL
from fgssl.methods.method import Method

SHARD = 2
"""Number of images in a BatchNorm group while counting; no size of a message depends on it."""
MEASURED_IMAGES = 512
"""Largest number of images for which a loss is really computed."""
BYTES = 4
"""Bytes per weight."""
ZERO_BUCKET = 50_000_000
"""Largest number of elements for which DeepSpeed reserves room: `_LARGEST_BUCKET` of the engine."""
ZERO_WHOLE = 100_000
"""Number of elements below which ZeRO-3 keeps a weight whole: DeepSpeed's default."""


@dataclass(frozen=True)
class Counted(World):
    """World of one process that records the tensors that several processes would send."""

    gathered: dict[str, Embeddings] = field(default_factory=dict)
    """Last embeddings of `online` and `target`."""
    summed: list[int] = field(default_factory=list)
    """Length of each vector that was summed."""
    exchanged: list[Tensor] = field(default_factory=list)
    """Tensors that were shuffled."""

    def gather(self, embeddings: Embeddings) -> Embeddings:
        """Record and return the embeddings."""
        embeddings = super().gather(embeddings)
        self.gathered["target" if "target" in embeddings else "online"] = embeddings
        return embeddings

    def tree_sum(self, flat: Tensor) -> Tensor:
        """Record the length of the vector and return it."""
        self.summed.append(len(flat))
        return super().tree_sum(flat)

    def shuffled(self, values: Tensor, order: NDArray[np.int64]) -> Tensor:
        """Record the tensor and return it shuffled."""
        self.exchanged.append(values)
        return super().shuffled(values, order)

    def bytes_per_image(self, name: str) -> int:
        """Return the bytes per image of the recorded `online` or `target`."""
        return sum(value[0].nbytes for value in self.gathered.get(name, {}).values())


@dataclass(frozen=True)
class Sizes:
    """Sizes of one method on one encoder."""

    trained: list[int]
    """Number of elements of each trained parameter."""
    held: int
    """Bytes of all weights and buffers, including key encoder, queue and bank."""
    states: int
    """Number of elements that the optimizer keeps per trained element."""
    rows: int
    """Bytes of the embeddings of an image."""
    targets: int
    """Bytes of the results of an image in the branch without gradient."""
    crops: int
    """Bytes of the crops of an image that are exchanged to shuffle keys."""
    statistics: int
    """Number of elements that update BatchNorm's running statistics."""
    flops_per_image: float
    """Operations of the networks per image, two for a multiplication and an addition."""
    views: int
    """Number of views of an image that go through the encoder with gradient."""

    @property
    def gradient(self) -> int:
        """Bytes of the gradient."""
        return BYTES * sum(self.trained)

    def given(self, engine: str, exact: bool, processes: int, images: int, shards: int) -> dict[str, int]:
        """Return the bytes that a process gives to each operation of torch.distributed in a step, by its name there."""
        reduced, scattered, sent = 2 * 8, 0, 0  # two numbers: whether to stop, and whether to save
        gathered = images * (self.rows + self.targets)
        if exact:
            sent = sum(_halved_and_doubled(numbers, processes) for numbers in (self.statistics, sum(self.trained)))
        else:
            reduced += BYTES * self.statistics
        if engine in ("ddp", "zero0") and not exact:
            reduced += self.gradient
        if engine in ("zero1", "zero2"):  # under `exact` the sum passes through as a sum with zeros
            times = shards if engine == "zero2" and not exact else 1
            reduced += times * self.gradient + BYTES  # one more number: whether all are finite
            gathered += BYTES * _padded(sum(self.trained), 2 * processes) // processes  # the new weights
        if engine == "zero3":
            parts = [BYTES * _padded(numbers, processes) // processes for numbers in self.trained]
            small = sum(part for part, numbers in zip(parts, self.trained, strict=True) if numbers < ZERO_WHOLE)
            # Gathered weights are kept from forward to backward of a shard, but not after a pass without graph.
            times = shards + (shards * self.views if shards > 1 else 0)
            reduced += 2 * BYTES
            gathered += small + times * (sum(parts) - small)
            scattered = shards * sum(parts) * processes
        given = {
            "allreduce_": reduced,
            "_allgather_base_": gathered,
            "alltoall_base_": images * self.crops,
            "_reduce_scatter_base_": scattered,
            "send": sent,
        }
        return {name: size for name, size in given.items() if size}

    def between_steps(self, engine: str, exact: bool, processes: int) -> float:
        """Return the bytes of networks, optimizer and the engine's buffers between two steps."""
        whole = self.gradient
        if engine == "ddp":  # gradients lie permanently in the buckets that are sent
            return self.held + self.states * whole + (whole if processes > 1 and not exact else 0)
        if engine == "zero0":
            return self.held + self.states * whole
        if engine == "zero3":  # parts of the weights, of the optimizer's copy of them, of gradient and of state
            small = BYTES * sum(numbers for numbers in self.trained if numbers < ZERO_WHOLE) if processes > 1 else 0
            return (
                self.held
                - whole
                + small
                + BYTES * min(sum(self.trained), ZERO_BUCKET)
                + (3 + self.states) * whole / processes
            )
        return self.held + (1 + self.states) * whole / processes

    def at_most(self, engine: str, exact: bool, processes: int, shards: int) -> float:
        """Return the largest number of these bytes and of gradients within a step, without images and activations."""
        whole, bucket = self.gradient, BYTES * min(sum(self.trained), ZERO_BUCKET)
        if exact:  # partial sums, the newest shard's gradient and its flat copy, or the buffers of the tree sum
            gradients = max(2 + math.log2(shards), 2.5 if processes > 1 else 0) * whole
        elif engine == "ddp":  # with two views, autograd keeps the gradient of one until it adds the other's
            gradients = whole if processes == 1 or self.views > 1 else 0
        else:  # for ZeRO-3 this includes the gathered weights
            gradients = {"zero0": whole, "zero3": whole + bucket}.get(engine, bucket) + whole
        return self.between_steps(engine, exact, processes) + gradients


def _padded(numbers: int, to: int) -> int:
    return -(-numbers // to) * to


def _halved_and_doubled(numbers: int, processes: int) -> int:
    padded = _padded(numbers, processes)
    return 2 * BYTES * (padded - padded // processes)


def on_the_wire(given: dict[str, int], processes: int) -> float:
    """Return the bytes that a process sends if it gives `given` to the operations.

    Sums and gathers run in rings; the other operations send each part directly to its receiver.
    """
    others = processes - 1
    factors = {
        "allreduce_": 2 * others / processes,
        "_allgather_base_": others,
        "alltoall_base_": others / processes,
        "_reduce_scatter_base_": others / processes,
        "send": 1,
    }
    return sum(factors[name] * size for name, size in given.items())


def count(*settings: str) -> tuple[Sizes, Method, Counted]:
    """Return the sizes of a method, counted in a real step of one process on two images, and its method and world."""
    settings = (*settings, f"encoder.batch_norm_group_size={SHARD}", f"training.global_batch_size={SHARD}")
    config, world = config_with(*settings, "training.invariant=exact"), Counted()
    trainer = make_trainer(config, world)
    method = trainer.engine.method
    with Watched() as watched:
        train_one_step(trainer, made_up(trainer, SHARD))
    statistics, trained = world.summed
    each = [parameter.numel() for parameter in method.trained_parameters()]
    assert sum(each) == trained
    _, flops_of_loss = loss_of(method, world, SHARD)
    sizes = Sizes(
        trained=each,
        held=sum(value.nbytes for value in method.state_dict().values()),
        states=1 if config.training.optimizer.name == "sgd" else 2,
        rows=world.bytes_per_image("online"),
        targets=world.bytes_per_image("target"),
        crops=sum(value[0].nbytes for value in world.exchanged),
        statistics=statistics,
        views=len(method.online_views),
        flops_per_image=(watched.flops - flops_of_loss) / SHARD,
    )
    return sizes, method, world


def loss_of(method: Method, like: Counted, images: int) -> tuple[int, int]:
    """Return the largest memory in bytes and the operations of a loss over `images`, both with its gradient.

    Many images are computed with tensors without memory. HCL reads values, so it is measured for few images and scaled
    by the square of their number.
    """
    few = min(images, MEASURED_IMAGES) if isinstance(method, HCL) else images
    with FakeTensorMode(allow_non_fake_inputs=True) if few > MEASURED_IMAGES else nullcontext():
        online = {
            name: torch.randn(few, *row.shape[1:]).requires_grad_()
            if row.is_floating_point()
            else torch.arange(few)[:, None] // 2 % torch.tensor(CLASSES)
            for name, row in like.gathered["online"].items()
        }
        keys = like.gathered.get("target")
        target = None if keys is None else torch.randn(few, *keys["target"].shape[1:])
        with Watched() as watched:
            method.loss(online, target, 0.0).loss.backward()
    return watched.most * (images // few) ** 2, watched.flops * (images // few) ** 2


def kept_for_backward(method: Method, image_size: int) -> float:
    """Return the bytes per image that `online` keeps for the backward pass."""
    kept = []
    for images in (SHARD, 2 * SHARD):
        views = [torch.randn(images, 3, image_size, image_size) for _ in range(method.num_views)]
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        numbers, labels = torch.arange(images), torch.zeros(images, 2, dtype=torch.int64)
        batch = Batch(0, numbers, labels, tuple(views), views[0] if method.needs_original else None)
        target = method.target(*(views[view] for view in method.target_views)) if method.target_views else None
        with Watched() as watched:
            online = method.online(batch, target)
        kept.append(watched.alive)
        del online
    return (kept[1] - kept[0]) / SHARD
