"""Traffic and memory of a process in a step, computed for 1 to 1,024 processes: `python -m benchmarks.messages`.

Networks of the papers' sizes take one real step on two images in one process. The benchmark counts the tensors that
they give to `World`, the memory that their backward pass keeps, and the cost of their loss. Formulas extrapolate to
more processes. `--check N` starts N real processes and compares the formulas with the bytes that torch.distributed
gets; any difference is an error.
"""

import argparse
import gc
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist  # noqa: TID251  # to start processes and count what they send

from benchmarks.sizes import BYTES, SHARD, Counted, Sizes, count, kept_for_backward, loss_of, on_the_wire
from benchmarks.step import Watched, config_with, made_up, make_trainer, train_one_step
from fgssl.collectives import World, leave
from fgssl.methods.method import Method
from fgssl.settings.config import Config

PROCESSES = [2**power for power in range(11)]
IMAGES = 32
"""Number of images per process in the tables."""
RESNET = ("encoder.name=resnet50", "decoder={name: mirrored_resnet50}", "training.optimizer.name=sgd")
VIT = ("encoder.name=vit_base_patch16_224", "training.optimizer.name=adamw")
PAPER = [
    *(("ResNet-50", method, RESNET) for method in ("mocov2", "simclr", "hcl", "synthesized")),
    *(("ViT-B/16", method, VIT) for method in ("mocov2", "simclr", "hcl")),
]
LINKS_GB_PER_S = (12.5, 50.0, 200.0)
"""Assumed bandwidths per process and direction: networks of 100 and 400 Gbit/s, and links within a node."""
SPEED_TFLOP_PER_S = 30.0
"""Assumed speed of a process, sustained over a step."""


# ------------------------------------------------------------------------------------ check with real processes


def cells() -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yield the name, the settings and the ways to train of small networks; a way is an engine and further settings."""
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
    """Yield the same for networks of the papers' sizes."""
    ways: list[tuple[str, ...]] = [("ddp",), ("ddp", "exact"), ("zero1",), ("zero2",), ("zero3",)]
    simclr = ("views.image_size=32", "method={name: simclr}")
    yield "ResNet-50, simclr", (*RESNET, *simclr), ways
    yield "ViT-B/16, simclr", (*VIT, *simclr, "encoder.arguments={img_size: 32}"), ways


SETTINGS = {"exact": "training.invariant=exact", "micro-batches": f"resources.micro_batch_size={SHARD}"}


def check(of_paper: bool) -> None:
    """Compare measured bytes with the formulas, as one process of a launch; exit with an error if they differ.

    Each cell takes three steps, of which the last is counted.
    """
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
    """Return bytes: given to each operation, held between steps, held at most, and carried for all processes."""
    gc.collect()
    with Watched() as watched:
        trainer = make_trainer(config, world)
        batch = made_up(trainer, config.training.global_batch_size)
        for _ in range(2):  # the first step lays out the buckets
            train_one_step(trainer, batch)
        gc.collect()
        before = _carried(world)
        held = watched.most = watched.alive
        watched.given.clear()
        train_one_step(trainer, batch)
        given = {operation: size for operation, size in watched.given.items() if size}
        return given, held, watched.most, _carried(world) - before


def _carried(world: World) -> int:
    """Return the bytes that the loopback device has carried; start in `unshare -rn` to count these processes alone."""
    world.agree_max([0])  # all processes wait here for each other
    time.sleep(0.1)
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    (carried,) = (int(line.split()[1]) for line in lines if line.strip().startswith("lo:"))
    world.agree_max([0])
    return carried


def say(text: str) -> None:
    """Print a line on the first process."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(text, flush=True)


# ------------------------------------------------------------------------------------------------------ formulas


Line = list[str]
"""Row of a table."""
KEEPERS = [
    ("ddp", False, 1),
    ("ddp", True, 1),
    ("ddp", True, 8),
    ("zero1", False, 1),
    ("zero2", False, 1),
    ("zero3", False, 1),
]
"""Engine, whether it is exact, and shards per process, for each column of the memory tables."""


def on_paper() -> None:
    """Print all tables of the formulas."""
    sizes: dict[tuple[str, str], Sizes] = {}
    losses: dict[str, tuple[Method, Counted]] = {}
    lines: list[Line] = []
    for network, name, settings in PAPER:
        one, method, world = count(*settings, f"method={{name: {name}}}")
        sizes[network, name] = one
        kept = kept_for_backward(method, 224)
        if network == "ResNet-50":  # embeddings of the other networks are as wide
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
    """Return a row with the megabytes that a process sends in a step, for each method."""
    line, others = [f"{processes:,}", f"{processes * IMAGES:,}"], (processes - 1) / processes
    for one in methods.values():
        rows = IMAGES * (one.rows + one.targets) * (processes - 1)
        line += [megabytes(2 * one.gradient * others), megabytes(rows)]
    return [*line, megabytes(IMAGES * methods["mocov2"].crops * others)]


def memory(processes: int, one: Sizes) -> Line:
    """Return a row with the megabytes that a process holds between steps and at most, for each of `KEEPERS`."""
    line = [f"{processes:,}"]
    for engine, exact, shards in KEEPERS:
        kept = one.between_steps(engine, exact, processes)
        line.append(f"{megabytes(kept)} / {megabytes(one.at_most(engine, exact, processes, shards))}")
    return line


def fewest_images(one: Sizes, link_gb_per_s: float) -> float:
    """Return the images per process at which exchanging the gradient takes a tenth of the networks' time.

    The number of processes is assumed to be large.
    """
    exchange_s = 2 * one.gradient / (link_gb_per_s * 1e9)
    return 10 * exchange_s / (one.flops_per_image / (SPEED_TFLOP_PER_S * 1e12))


def megabytes(size: float) -> str:
    """Return bytes as megabytes, with one decimal below 10."""
    return f"{size / 1e6:,.0f}" if size >= 9.95e6 else f"{size / 1e6:.1f}"


def table(title: str, columns: list[str], lines: list[Line]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---:|' * len(columns)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def main() -> None:
    """Print the tables, or check the formulas with real processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=int, metavar="N", help="compare with N processes; ZeRO needs deepspeed")
    parser.add_argument("--paper", action="store_true", help="with --check: networks of the size of papers")
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)  # torchrun starts it with this flag
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
