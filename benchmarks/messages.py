"""`python -m benchmarks.messages`: what a process sends in a step and holds, on paper, at 1 to 1,024 processes.

Networks of the size of papers take one real step on two images, alone. What they ask of `World`, what their backward
keeps and what their loss takes is counted; formulas say what follows for more processes. `--check N` starts N real
processes and compares the formulas with what torch.distributed is given: the same to the byte, or it fails.
"""

import argparse
import gc
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist  # noqa: TID251  # to start processes that are watched
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.step import CLASSES, Watched, config_with, made_up, make_trainer, train_one_step
from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World, leave
from fgssl.methods.hcl import HCL
from fgssl.methods.method import Method
from fgssl.settings.config import Config

PROCESSES = [2**power for power in range(11)]
IMAGES = 32
"""Of each process, in the tables."""
RESNET = ("encoder.name=resnet50", "decoder={name: mirrored_resnet50}", "training.optimizer.name=sgd")
VIT = ("encoder.name=vit_base_patch16_224", "training.optimizer.name=adamw")
PAPER = [
    *(("ResNet-50", method, RESNET) for method in ("mocov2", "simclr", "hcl", "synthesized")),
    *(("ViT-B/16", method, VIT) for method in ("mocov2", "simclr", "hcl")),
]
SHARD = 2
"""Images of a BatchNorm group while counting: no size of a message depends on it."""
MEASURED_IMAGES = 512
"""Of a loss, at most."""
BYTES = 4
"""Of a weight."""
ZERO_BUCKET = 50_000_000
"""Numbers that DeepSpeed reserves room for, at most: `_LARGEST_BUCKET` of the engine."""
ZERO_WHOLE = 100_000
"""Weights of fewer numbers stay whole under ZeRO-3: DeepSpeed's default."""
LINKS_GB_PER_S = (12.5, 50.0, 200.0)
"""Assumed, of each process in each direction: 100 and 400 Gbit/s networks, and links within a node."""
SPEED_TFLOP_PER_S = 30.0
"""Assumed, of each process, sustained over a step."""


# --------------------------------------------------------------------------------------- counted, of one process


@dataclass(frozen=True)
class Counted(World):
    """One process that notes what it would send."""

    gathered: dict[str, Embeddings] = field(default_factory=dict)
    summed: list[int] = field(default_factory=list)
    exchanged: list[Tensor] = field(default_factory=list)

    def gather(self, embeddings: Embeddings) -> Embeddings:
        embeddings = super().gather(embeddings)
        self.gathered["target" if "target" in embeddings else "online"] = embeddings
        return embeddings

    def tree_sum(self, flat: Tensor) -> Tensor:
        self.summed.append(len(flat))
        return super().tree_sum(flat)

    def shuffled(self, values: Tensor, order: NDArray[np.int64]) -> Tensor:
        self.exchanged.append(values)
        return super().shuffled(values, order)

    def bytes_per_image(self, name: str) -> int:
        return sum(value[0].nbytes for value in self.gathered.get(name, {}).values())


@dataclass(frozen=True)
class Sizes:
    """Of one method on one encoder."""

    trained: list[int]
    """Numbers of each trained parameter."""
    held: int
    """Bytes of all weights and buffers: key encoder, queue and bank too."""
    states: int
    """Numbers that the optimizer keeps for each trained one."""
    rows: int
    """Bytes of an image, as are the next two."""
    targets: int
    crops: int
    """Those that are exchanged so that keys are shuffled."""
    statistics: int
    """Numbers that move BatchNorm's running statistics."""
    flops_per_image: float
    """Of the networks."""
    views: int
    """Passes of an image's rows through the encoder."""

    @property
    def gradient(self) -> int:
        """Bytes."""
        return BYTES * sum(self.trained)

    def given(self, engine: str, exact: bool, processes: int, images: int, shards: int) -> dict[str, int]:
        """Bytes that a process gives to each operation of torch.distributed in a step, by its name there."""
        reduced, scattered, sent = 2 * 8, 0, 0  # whether to stop, whether to save
        gathered = images * (self.rows + self.targets)
        if exact:
            sent = sum(_halved_and_doubled(numbers, processes) for numbers in (self.statistics, sum(self.trained)))
        else:
            reduced += BYTES * self.statistics
        if engine in ("ddp", "zero0") and not exact:
            reduced += self.gradient
        if engine in ("zero1", "zero2"):  # under `exact` the sum passes through as a sum with zeros
            times = shards if engine == "zero2" and not exact else 1
            reduced += times * self.gradient + BYTES  # and whether all numbers are finite
            gathered += BYTES * _padded(sum(self.trained), 2 * processes) // processes  # the new weights
        if engine == "zero3":
            parts = [BYTES * _padded(numbers, processes) // processes for numbers in self.trained]
            small = sum(part for part, numbers in zip(parts, self.trained, strict=True) if numbers < ZERO_WHOLE)
            # Between forward and backward of a shard they are kept, and after a pass without graph they are not.
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
        """Bytes of networks, optimizer, and what the engine reserves."""
        whole = self.gradient
        if engine == "ddp":  # its gradient lies in what it sends, for good
            return self.held + self.states * whole + (whole if processes > 1 and not exact else 0)
        if engine == "zero0":
            return self.held + self.states * whole
        if engine == "zero3":  # parts of weights, of their copy for the optimizer, of gradient and state
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
        """Bytes of the same and of gradients, once in a step; beside what images and the shapes of kernels take."""
        whole, bucket = self.gradient, BYTES * min(sum(self.trained), ZERO_BUCKET)
        if exact:  # partial sums, the newest shard's gradient and its flat copy; or what the tree over processes takes
            gradients = max(2 + math.log2(shards), 2.5 if processes > 1 else 0) * whole
        elif engine == "ddp":  # with two views, autograd keeps the gradient of one until it adds the other's
            gradients = whole if processes == 1 or self.views > 1 else 0
        else:  # and the weights of ZeRO-3, gathered
            gradients = {"zero0": whole, "zero3": whole + bucket}.get(engine, bucket) + whole
        return self.between_steps(engine, exact, processes) + gradients


def _padded(numbers: int, to: int) -> int:
    return -(-numbers // to) * to


def _halved_and_doubled(numbers: int, processes: int) -> int:
    padded = _padded(numbers, processes)
    return 2 * BYTES * (padded - padded // processes)


def on_the_wire(given: dict[str, int], processes: int) -> float:
    """Bytes that a process sends for what it gives: in rings for sums and gathers, else each part to who wants it."""
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
    """Of a real step by one process, on two images."""
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
    """Bytes that the loss of so many images takes at most, and operations of its products, both with gradient.

    Of tensors without memory where there are many; HCL, which asks for values, is measured and scaled by the square.
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
    """Bytes an image."""
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


# --------------------------------------------------------------------------------- checked, with real processes


def cells() -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Name, settings, and the ways to train them by: engine, and what else."""
    size = "views.image_size=32"
    resnet = (size, "encoder.name=resnet18", "encoder.arguments={layers: [1, 1, 1, 1]}", "decoder.width=16")
    small = "encoder.arguments={img_size: 32, patch_size: 8, depth: 2}"
    vit = (size, "encoder.name=vit_tiny_patch16_224", small, "training.optimizer.name=adamw")
    ddp: list[tuple[str, ...]] = [("ddp",), ("ddp", "micro-batches"), ("ddp", "exact")]
    zero: list[tuple[str, ...]] = [("zero0",), ("zero1",), ("zero2",), ("zero1", "exact"), ("zero2", "micro-batches")]
    yield "small ResNet, mocov2", (*resnet, "method={name: mocov2}"), ddp + zero
    yield "small ResNet, simclr", (*resnet, "method={name: simclr}"), [*ddp, ("zero3",), ("zero3", "micro-batches")]
    yield "small ResNet, hcl", (*resnet, "method={name: hcl}"), ddp
    yield "small ResNet, synthesized", (*resnet, "method={name: synthesized}"), ddp
    yield "small ViT, simclr", (*vit, "method={name: simclr}"), [*ddp, ("zero1",), ("zero2",), ("zero3",)]


def paper_cells() -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    ways: list[tuple[str, ...]] = [("ddp",), ("ddp", "exact"), ("zero1",), ("zero2",), ("zero3",)]
    simclr = ("views.image_size=32", "method={name: simclr}")
    yield "ResNet-50, simclr", (*RESNET, *simclr), ways
    yield "ViT-B/16, simclr", (*VIT, *simclr, "encoder.arguments={img_size: 32}"), ways


SETTINGS = {"exact": "training.invariant=exact", "micro-batches": f"resources.micro_batch_size={SHARD}"}


def check(of_paper: bool) -> None:
    """By each process of a launch: three steps of each cell, the last of which is counted."""
    dist.init_process_group("gloo")
    world = World.joined(torch.device("cpu"))
    differ = 0
    say("| | given, bytes | formula | on the wire / formula | held, MB | formula | at most, MB | formula |")
    say("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, settings, ways in paper_cells() if of_paper else cells():
        sizes, *_ = count(*settings)
        for engine, *more in ways:
            divided = 2 if more else 1
            batch_size, images = SHARD * divided * world.size, SHARD * divided
            others = (f"resources.engine={engine}", f"training.global_batch_size={batch_size}")
            group = f"encoder.batch_norm_group_size={SHARD}"
            config = config_with(*settings, group, *others, *(SETTINGS[setting] for setting in more))
            exact = "exact" in more
            given, held, most, carried = step_of(config, world)
            formula = sizes.given(engine, exact, world.size, images, shards=divided)
            differ += given != formula
            if given != formula:
                say(f"given {given}, formula {formula}")
            kept = sizes.between_steps(engine, exact, world.size), sizes.at_most(engine, exact, world.size, divided)
            say(
                f"| {', '.join((name, engine, *more))} | {sum(given.values())} | {sum(formula.values())} "
                f"| {carried / (world.size * on_the_wire(formula, world.size)):.3f} "
                f"| {held / 1e6:.1f} | {kept[0] / 1e6:.1f} | {most / 1e6:.1f} | {kept[1] / 1e6:.1f} |"
            )
    leave()
    if differ:
        raise SystemExit(f"{differ} of the rows differ from the formula")


def step_of(config: Config, world: World) -> tuple[dict[str, int], int, int, int]:
    """Given to each operation, held between steps, held at most, carried by this machine for all: bytes."""
    gc.collect()
    with Watched() as watched:
        trainer = make_trainer(config, world)
        batch = made_up(trainer, config.training.global_batch_size)
        for _ in range(2):  # the first lays out the buckets
            train_one_step(trainer, batch)
        gc.collect()
        before = _carried(world)
        held = watched.most = watched.alive
        watched.given.clear()
        train_one_step(trainer, batch)
        given = {operation: size for operation, size in watched.given.items() if size}
        return given, held, watched.most, _carried(world) - before


def _carried(world: World) -> int:
    """By the loopback device: of these processes only, where they have a network of their own (`unshare -rn`)."""
    world.barrier()
    time.sleep(0.1)
    lines = Path("/proc/net/dev").read_text().splitlines()
    (carried,) = (int(line.split()[1]) for line in lines if line.strip().startswith("lo:"))
    world.barrier()
    return carried


def say(text: str) -> None:
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(text, flush=True)


# --------------------------------------------------------------------------------------------------- on paper


Line = list[str]
KEEPERS = [
    ("ddp", False, 1),
    ("ddp", True, 1),
    ("ddp", True, 8),
    ("zero1", False, 1),
    ("zero2", False, 1),
    ("zero3", False, 1),
]
"""Engine, exact, shards of each process."""


def on_paper() -> None:
    sizes: dict[tuple[str, str], Sizes] = {}
    losses: dict[str, tuple[Method, Counted]] = {}
    lines: list[Line] = []
    for network, name, settings in PAPER:
        one, method, world = count(*settings, f"method={{name: {name}}}")
        sizes[network, name] = one
        kept = kept_for_backward(method, 224)
        if network == "ResNet-50":  # the others' rows are as wide
            losses[name] = method, world
        parts = [megabytes(part) for part in (one.gradient, one.held, kept)]
        in_bytes = [one.rows, one.targets, one.crops, BYTES * one.statistics]
        lines.append([network, name, *parts, f"{one.flops_per_image / 1e9:.0f}", *(f"{size:,}" for size in in_bytes)])
    columns = ["encoder", "method", "gradient MB", "weights and buffers MB", "kept for backward MB/image"]
    columns += ["networks GFLOP/image", "rows B/image", "targets B/image", "crops B/image", "statistics B"]
    table("Sizes", columns, lines)

    for network in ("ResNet-50", "ViT-B/16"):
        of_network = {name: one for (encoder, name), one in sizes.items() if encoder == network}
        columns = ["processes", "images", *(f"{name} {what}" for name in of_network for what in ("gradient", "rows"))]
        lines = [traffic(processes, of_network) for processes in PROCESSES]
        table(f"{network}: a process sends, MB per step, {IMAGES} images each", [*columns, "crops"], lines)

    columns = ["processes", "images", *(f"{name} {unit}" for name in losses for unit in ("GB", "GFLOP"))]
    lines = []
    for processes in PROCESSES:
        images = processes * IMAGES
        taken = [loss_of(method, world, images) for method, world in losses.values()]
        values = [value for memory, flops in taken for value in (f"{memory / 1e9:,.2f}", f"{flops / 1e9:,.0f}")]
        lines.append([f"{processes:,}", f"{images:,}", *values])
    table("The loss over all rows, on every process", columns, lines)

    columns = [
        "processes",
        *(f"{engine}{f', exact, {shards} shards each' * exact}" for engine, exact, shards in KEEPERS),
    ]
    for network in ("ResNet-50", "ViT-B/16"):
        lines = [memory(processes, sizes[network, "simclr"]) for processes in (1, 2, 4, 8, 64, 1024)]
        title = "a process holds between steps / at most in a step, MB, beside what images take"
        table(f"{network}, simclr: {title}", columns, lines)

    columns = ["processes", "images each", "messages of exact"]
    columns += [f"{network} {what}" for network in ("ResNet-50", "ViT-B/16") for what in ("gradient", "for an image")]
    for batch_size in (256, 4096):
        lines = []
        for processes in (number for number in PROCESSES if batch_size // number >= 4):
            images = batch_size // processes
            line = [f"{processes:,}", f"{images:,}", str(2 * 2 * int(math.log2(processes)))]
            for network in ("ResNet-50", "ViT-B/16"):
                sent = 2 * sizes[network, "mocov2"].gradient * (processes - 1) / processes
                line += [megabytes(sent), megabytes(sent / images)]
            lines.append(line)
        table(f"A batch of {batch_size:,}, mocov2: a process sends, MB per step", columns, lines)

    columns = ["encoder", "method", *(f"{link:g} GB/s" for link in LINKS_GB_PER_S)]
    table(
        f"Images each under which an exchange that nothing hides adds over 10% to a step, at {SPEED_TFLOP_PER_S:g} "
        "TFLOP/s (assumed, as the links are)",
        columns,
        [[*names, *(f"{fewest_images(one, link):.0f}" for link in LINKS_GB_PER_S)] for names, one in sizes.items()],
    )


def traffic(processes: int, methods: dict[str, Sizes]) -> Line:
    line, others = [f"{processes:,}", f"{processes * IMAGES:,}"], (processes - 1) / processes
    for one in methods.values():
        rows = IMAGES * (one.rows + one.targets) * (processes - 1)
        line += [megabytes(2 * one.gradient * others), megabytes(rows)]
    return [*line, megabytes(IMAGES * methods["mocov2"].crops * others)]


def memory(processes: int, one: Sizes) -> Line:
    line = [f"{processes:,}"]
    for engine, exact, shards in KEEPERS:
        kept = one.between_steps(engine, exact, processes)
        line.append(f"{megabytes(kept)} / {megabytes(one.at_most(engine, exact, processes, shards))}")
    return line


def fewest_images(one: Sizes, link_gb_per_s: float) -> float:
    """Of each of many processes, for an exchange of the gradient to take a tenth of the time of the networks."""
    exchange_s = 2 * one.gradient / (link_gb_per_s * 1e9)
    return 10 * exchange_s / (one.flops_per_image / (SPEED_TFLOP_PER_S * 1e12))


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f}" if size >= 9.95e6 else f"{size / 1e6:.1f}"


def table(title: str, columns: list[str], lines: list[Line]) -> None:
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---:|' * len(columns)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, metavar="N", help="compare with N processes; ZeRO needs deepspeed")
    parser.add_argument("--paper", action="store_true", help="with --check: networks of the size of papers")
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)  # of a launch
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.process:
        check(arguments.paper)
    elif arguments.check:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(arguments.check)]
        script = ["-m", "benchmarks.messages", "--process", *(["--paper"] if arguments.paper else [])]
        sys.exit(subprocess.run([sys.executable, *torchrun, *script]).returncode)
    else:
        on_paper()


if __name__ == "__main__":
    main()
