"""Cost of a step under `exact` relative to `close`, with one thread per process: `python -m benchmarks.exact`.

The method is MoCo v2 on a ResNet-18 at 64 pixels with a global batch of 64, for shards of several sizes; BatchNorm
groups are as large as the shards. Three ways take turns: `close` with the whole share at once, `close` in micro-batches
as large as the shards of `exact`, and `exact`. All run on one process, then on two. Times are processor seconds, which
exclude waiting for the other process and depend little on other work on the machine.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist  # noqa: TID251  # to start processes that are timed
from torch import Tensor

from benchmarks.step import Watched, config_with, made_up, make_trainer, train_one_step
from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World, leave
from fgssl.data.loader import RawBatch
from fgssl.training.engines.engine import Engine
from fgssl.training.trainer import Trainer

BATCH = 64
SHARDS = (4, 8, 16, 32)
WAYS = {
    "whole": (),
    "micro": ("resources.micro_batch_size={shard}",),
    "exact": ("training.invariant=exact",),
}
SETTINGS = (
    "encoder.name=resnet18",
    "views.image_size=64",
    "method={name: mocov2, queue_size: 4096}",
    f"training.global_batch_size={BATCH}",
)


class Stopwatch(Engine):
    """Engine that measures the processor seconds of the parts of its steps."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.method = engine, engine.method
        self.taken_s: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the processor seconds of the block to those of `part`."""
        began = time.process_time()
        yield
        self.taken_s[part] += time.process_time() - began

    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Compute embeddings, timed as `rows`, or as `rows again` after the first gradient."""
        # After the first gradient, embeddings are recomputed: they were computed before, for the loss.
        with self.timed("rows" if "gradient" not in self.taken_s else "rows again"):
            return self.engine.online(shard, target, last)

    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Compute gradients, timed as `gradient`."""
        with self.timed("gradient"):
            self.engine.backward(surrogate, last)

    def step(self) -> Tensor:
        """Take the step of the optimizer, timed as `step`."""
        with self.timed("step"):
            return self.engine.step()

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the engine's optimizer."""
        return self.engine.parameter_groups

    def state(self) -> dict[str, Any]:
        """Return the state of the engine."""
        return self.engine.state()

    def load(self, state: dict[str, Any]) -> None:
        """Load a state into the engine."""
        self.engine.load(state)

    def whole(self) -> AbstractContextManager[Any]:
        """Return the engine's context in which weights are whole."""
        return self.engine.whole()


@dataclass
class Way:
    """One way to take a step, and its measurements."""

    trainer: Trainer
    batch: RawBatch
    most: int
    """Largest number of bytes in tensors during a step."""
    steps: list[dict[str, float]] = field(default_factory=list)
    """Processor seconds by part, for each step."""

    def step(self) -> None:
        """Take one step and record its times."""
        engine = self.trainer.engine
        self.trainer.engine = stopwatch = Stopwatch(engine)
        with stopwatch.timed("all"):
            train_one_step(self.trainer, self.batch)
        self.trainer.engine = engine
        self.steps.append(stopwatch.taken_s)


def prepare(shard: int, way: str, world: World) -> Way:
    """Return one way to take a step, after two steps of which the second measures the memory."""
    settings = (setting.format(shard=shard) for setting in WAYS[way])
    with Watched() as watched:
        trainer = make_trainer(config_with(*SETTINGS, f"encoder.batch_norm_group_size={shard}", *settings), world)
        batch = made_up(trainer, BATCH)
        train_one_step(trainer, batch)  # the first step lays out the buckets
        gc.collect()
        watched.most = watched.alive
        train_one_step(trainer, batch)
    return Way(trainer, batch, watched.most)


def compare(rounds: int) -> None:
    """Measure all ways for some rounds as one process of a launch; the first process prints the table."""
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    world = World.joined(torch.device("cpu"))
    ways = {(shard, way): prepare(shard, way, world) for shard in SHARDS for way in WAYS}
    for _ in range(rounds):
        for way in ways.values():
            way.step()
    if world.rank == 0:
        print(f"\nProcesses: {world.size}, images of each: {BATCH // world.size}, rounds: {rounds}\n")
        print(
            "| images of a shard | shards of each | exact / whole "
            "| = 1 + smaller shards | + rows again | + sum | + rest "
            "| exact / micro-batches | memory: exact / whole | exact / micro-batches |"
        )
        print("|" + "---:|" * 10)
        for shard in SHARDS:
            line = [shard, BATCH // world.size // shard, *columns(*(ways[shard, way] for way in WAYS))]
            print(f"| {' | '.join(map(str, line))} |", flush=True)
    leave()


def columns(whole: Way, micro: Way, exact: Way) -> list[str]:
    """Return the cells of one row of the table."""

    def surplus(*terms: tuple[int, Way, str]) -> float:
        """Return the signed sum of parts in units of a step of `whole`, the median over the rounds."""
        return statistics.median(
            sum(sign * way.steps[number].get(part, 0.0) for sign, way, part in terms) / step["all"]
            for number, step in enumerate(whole.steps)
        )

    # `exact` computes embeddings in shards and `micro` gradients; `whole` computes both for all images at once.
    smaller = surplus((1, exact, "rows"), (-1, whole, "rows"), (1, micro, "gradient"), (-1, whole, "gradient"))
    again = surplus((1, exact, "rows again"))
    added_up = surplus((1, exact, "gradient"), (-1, micro, "gradient"), (1, exact, "step"), (-1, whole, "step"))
    rest = surplus((1, exact, "all"), (-1, whole, "all")) - smaller - again - added_up
    parts = [f"{part:+.2f}" for part in (smaller, again, added_up, rest)]
    memory = [f"{exact.most / whole.most:.2f}", f"{exact.most / micro.most:.2f}"]
    return [ratio(exact, whole), *parts, ratio(exact, micro), *memory]


def ratio(above: Way, below: Way) -> str:
    """Return the median and the quartiles of the ratio of two ways' times."""
    ratios = [one["all"] / other["all"] for one, other in zip(above.steps, below.steps, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Measure on one process, then on two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)  # torchrun starts it with this flag
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.process:
        compare(arguments.rounds)
        return
    print(f"torch {torch.__version__}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    script = ["-m", "benchmarks.exact", "--process", "--rounds", str(arguments.rounds)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher in ([], torchrun):
        subprocess.run([sys.executable, *launcher, *script], check=True)


if __name__ == "__main__":
    main()
