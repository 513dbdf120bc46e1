"""Speed of packing by the number of threads, and its memory by the number of images: `python -m benchmarks.packing`.

Each measurement is a process of its own. Photographs of 500 x 375 px are packed with one thread and with more, in turn;
the best of all rounds counts. Tiny images are packed into small shards, verified and read; the table gives the peak of
the process's memory after each of these steps, and its growth per image. The growth includes the list of the images,
which is there before packing starts.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgssl.data.packing import pack
from fgssl.data.shards import ShardedSplit
from fgssl.data.source import SourceDataset
from fgssl.data.sources.encoded_image import file_sample
from fgssl.settings.packing import PackingSettings
from fgssl.store.manifest import Level, verify

CLASSES = 100
FILES_PER_FOLDER = 1000
SMALL_SHARD_BYTES = 4 * 2**20
"""Size of a shard of tiny images: small beside all of them, since one shard at a time is in memory."""


def write_images(folder: Path, count: int, width: int, height: int) -> None:
    """Write `count` distinct JPEG files of smooth noise."""
    generator = np.random.default_rng(0)
    for number in range(count):
        rough = generator.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
        file = folder / str(number // FILES_PER_FOLDER) / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(file, quality=92)


def dataset(folder: Path, count: int) -> SourceDataset:
    """Return the first `count` images of a folder as a dataset of 100 classes."""
    files = [folder / str(number // FILES_PER_FOLDER) / f"{number}.jpg" for number in range(count)]
    recipes = [partial(file_sample, file, (number % CLASSES,), file.name) for number, file in enumerate(files)]
    level = Level("class", tuple(map(str, range(CLASSES))))
    return SourceDataset("made-up", "benchmark", {}, (level,), {"train": recipes})


def measured(folder: Path, count: int, workers: int, read: bool) -> dict[str, float]:
    """Pack the images, and if `read` verify and read them; return seconds and peaks of memory of this process."""
    found: dict[str, float] = {}

    def step(name: str, function: Callable[[], Any]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        found[f"{name}_wall_s"], found[f"{name}_cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
        found[f"{name}_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def iterate() -> None:
        split = ShardedSplit(packed, "train")
        for row in range(len(split)):
            split.read(row)

    packed = folder / f"packed-{os.getpid()}"
    images = dataset(folder, count)
    found["start_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shard_bytes = SMALL_SHARD_BYTES if read else 128 * 2**20
    step("pack", lambda: pack(images, packed, PackingSettings(workers=workers), shard_bytes=shard_bytes))
    if read:
        step("verify", lambda: verify(packed, workers=workers))
        step("iterate", iterate)
    shutil.rmtree(packed)
    return found


def in_a_process(folder: Path, count: int, workers: int, read: bool = False) -> dict[str, float]:
    """Return the result of `measured` in a new process."""
    command = [sys.executable, "-m", "benchmarks.packing", "--measure", json.dumps([str(folder), count, workers, read])]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    )
    return found


def print_speed(folder: Path, count: int, workers: Sequence[int], rounds: int) -> None:
    """Print images per second for each number of threads, and their ratio to one thread."""
    write_images(folder, count, 500, 375)
    runs: dict[int, list[dict[str, float]]] = {number: [] for number in workers}
    for _ in range(rounds):
        for number in workers:
            runs[number].append(in_a_process(folder, count, number))
    best = {number: min(run["pack_wall_s"] for run in each) for number, each in runs.items()}
    print(f"{count} photographs of 500 x 375 px, best of {rounds} rounds\nthreads  images/s  ratio  CPU-s")
    for number, seconds in best.items():
        cpu = min(run["pack_cpu_s"] for run in runs[number])
        print(f"{number:>7}  {count / seconds:>8.0f}  {best[workers[0]] / seconds:>5.2f}  {cpu:>5.1f}")


def print_memory(folder: Path, counts: Sequence[int], workers: int) -> None:
    """Print the peak of memory after each step, by the number of images."""
    write_images(folder, max(counts), 32, 24)
    steps = ("start", "pack", "verify", "iterate")
    print(f"\ntiny images, {workers} threads: peak of memory in MiB\n{'images':>8}", *(f"{step:>8}" for step in steps))
    runs = [in_a_process(folder, count, workers, read=True) for count in counts]
    for count, run in zip(counts, runs, strict=True):
        print(f"{count:>8}", *(f"{run[f'{step}_peak_mib']:>8.0f}" for step in steps), f"  {run['pack_wall_s']:.0f} s")
    growth = [(runs[-1][f"{step}_peak_mib"] - runs[0][f"{step}_peak_mib"]) * 2**20 for step in steps]
    more = max(1, counts[-1] - counts[0])
    print(f"{'bytes/image':>8}", *(f"{each / more:>8.0f}" for each in growth))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", type=int, nargs="*", default=[10_000, 100_000], help="numbers of tiny images")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, count, workers, read = json.loads(arguments.measure)
        print(json.dumps(measured(Path(folder), count, workers, read)))
        return
    with tempfile.TemporaryDirectory() as place:
        if arguments.photographs:
            print_speed(Path(place, "photographs"), arguments.photographs, arguments.workers, arguments.rounds)
        if arguments.tiny:
            print_memory(Path(place, "tiny"), arguments.tiny, max(arguments.workers))


if __name__ == "__main__":
    main()
