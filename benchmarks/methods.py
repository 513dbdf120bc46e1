"""Cost of a step of each method relative to MoCo v2's: `python -m benchmarks.methods [METHOD ...]`, in half an hour.

ResNet-50 at 96 pixels in fp32, a batch of 32, the defaults of each method. A method and MoCo v2 take turns, each in a
process of its own with one thread. Times are processor seconds, which depend little on other work on the machine; the
table shows the mean of the ratios within a round, and their standard deviation. Operations are those of products and
convolutions, forward and backward, as torch's FLOP counter counts them. Memory is the most that the process has held.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import torch

from benchmarks.step import MadeImages, Watched, config_with, made_up, make_trainer, train_one_step
from fgssl.collectives import World
from fgssl.run.encoding import crop_boxes
from fgssl.settings.config import Config
from fgssl.training.trainer import Trainer

BATCH = 32
SETTINGS = (
    "encoder={name: resnet50, batch_norm_group_size: 32}",
    "views.image_size=96",
    "decoder={name: mirrored_resnet50}",
    f"training={{epochs: 100, global_batch_size: {BATCH}}}",
)
TWO_VIEWS = "views.recipes=[{count: 2}]"
TEN_VIEWS = "views.recipes=[{count: 2}, {count: 8, image_size: 40}]"  # 40 of 96 pixels, as 96 of 224
METHODS = {
    "mocov2": ("method={name: mocov2}",),
    "mocov2, ContrastiveCrop": ("method={name: mocov2}", "views.contrastive_crop={}"),
    "cross_entropy": ("method={name: cross_entropy}",),
    "n_pairs": ("method={name: n_pairs}",),
    "simclr": ("method={name: simclr}",),
    "supcon": ("method={name: supcon}",),
    "hcl": ("method={name: hcl}",),
    "hmlc": ("method={name: hmlc}",),
    "simsiam": ("method={name: simsiam}",),
    "byol": ("method={name: byol}",),
    "dino, 2 views": ("method={name: dino}", TWO_VIEWS),
    "dino, 2 + 8 views": ("method={name: dino}", TEN_VIEWS),
    "vicreg": ("method={name: vicreg}",),
    "barlow_twins": ("method={name: barlow_twins}",),
    "lcr on mocov2": ("method={name: lcr, base: {name: mocov2}}",),
    "sam_ssl_bilinear on mocov2": ("method={name: sam_ssl_bilinear, base: {name: mocov2}}",),
    "lewel on byol": ("method={name: lewel, base: {name: byol}}",),
    "lewel on mocov2": ("method={name: lewel, base: {name: mocov2}}",),
    "synthesized on mocov2": ("method={name: synthesized, base: {name: mocov2}}",),
    "synthesized on simsiam": ("method={name: synthesized, base: {name: simsiam}}",),
    "synthesized on byol": ("method={name: synthesized, base: {name: byol}}",),
    "synthesized on dino": ("method={name: synthesized, base: {name: dino}}", TWO_VIEWS),
}
"""Settings of each row of the table; a new method is one line."""


@dataclass(frozen=True)
class Step:
    """Cost of a step."""

    seconds: float
    """Processor seconds."""
    most_bytes: int
    """Largest memory of the process so far."""


def step_of(config: Config, trainer: Trainer) -> Callable[[], float]:
    """Return a function that takes a step and returns its processor seconds.

    With boxes around the objects they include the step's share of a search for boxes.
    """
    batch = made_up(trainer, BATCH)
    boxes = crop_boxes(config, trainer, MadeImages(BATCH))  # type: ignore[arg-type]

    def step() -> float:
        began = time.process_time()
        train_one_step(trainer, batch)
        stepped = time.process_time()
        if boxes is None or boxes.search is None:
            return stepped - began
        boxes.search()
        return stepped - began + (time.process_time() - stepped) / boxes.settings.every_epochs

    return step


def serve(connection: Connection, other_end: Connection, overrides: tuple[str, ...]) -> None:
    """Send the operations of a step, then a `Step` for each message received."""
    other_end.close()  # the fork's copy, with which `recv` would outwait the end of the parent
    config = config_with(*SETTINGS, *overrides)
    trainer = make_trainer(config, World())
    step = step_of(config, trainer)
    with Watched() as watched:  # this step also makes the state of the optimizer
        train_one_step(trainer, made_up(trainer, BATCH))
    connection.send(watched.flops)
    while connection.recv():
        connection.send(Step(step(), _most_bytes()))


def _most_bytes() -> int:
    """Return the largest memory of this process, not that of the one that started it, as `getrusage` does."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


@dataclass
class Process:
    """Process that takes steps of a method, for a block; it takes its first step at once."""

    method: str

    def __enter__(self) -> Self:
        self._connection, there = multiprocessing.Pipe()
        overrides = METHODS[self.method]
        self._process = multiprocessing.get_context("fork").Process(
            target=serve, args=(there, self._connection, overrides), daemon=True
        )
        self._process.start()
        there.close()
        self.flops: int = self._connection.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()

    def step(self) -> Step:
        """Take one more step."""
        self._connection.send(True)
        taken: Step = self._connection.recv()
        return taken


def row(method: str, mocov2: Process, rounds: int) -> str:
    """Return a row of the table."""
    with Process(method) as process:
        pairs = [(process.step(), mocov2.step()) for _ in range(rounds)]
        flops = process.flops / mocov2.flops
    times = [own.seconds / reference.seconds for own, reference in pairs]
    mean, spread = statistics.mean(times), statistics.stdev(times)
    own, reference = pairs[-1]
    cells = [
        method,
        f"{flops:.2f}",
        f"{mean:.2f} ± {spread:.2f}",
        f"{mean / flops:.2f} ± {spread / flops:.2f}",
        f"{own.most_bytes / reference.most_bytes:.2f}",
        f"{own.most_bytes / 2**30:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure the methods one after the other, and print each row of the table when it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"all if none is given: {', '.join(METHODS)}")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(METHODS):
        parser.error(f"{', '.join(sorted(unknown))}: must be among {', '.join(METHODS)}")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    with Process("mocov2") as mocov2:
        print(f"MoCo v2: {mocov2.flops / 1e9:.0f} GFLOP and {mocov2.step().seconds:.1f} s a step\n")
        print("| method | operations | time | time / operations | memory | GiB |")
        print("|---|---:|---:|---:|---:|---:|", flush=True)
        for method in arguments.methods or METHODS:
            print(row(method, mocov2, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
