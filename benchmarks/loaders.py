"""Loaders compared: decode and crop, and two views of MoCo v2, from the same images on the same cores.

    python -m benchmarks.loaders IMAGES OUT [--shorter-side 256] [--images 2000] [--batches 20] [--rounds 3]
                                 [--cores 2] [--only fgssl,FFCV]

IMAGES holds a folder of images per class. Each loader runs in a process of its own, in turn, and repeats that in every
round. After some batches that warm it up, the wall time and the CPU time (user and system, of all its processes) of the
next batches are measured, and then its memory (shared pages are divided among the processes that share them). OUT gets
`loaders.csv` with every run, `loaders.md` with the medians and `loaders.png`. Peers: `pip install 'fgssl[benchmarks]'`.
"""

import csv
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.peers import BATCH, PEERS, SIZE, View

WARM_UP = 6
"""Batches before the measurement, which fill all queues and compile what is compiled."""
JPEG_QUALITY = 90
LIMIT_S = 900
Run = dict[str, Any]


def make_images(source: Path, folder: Path, number: int, shorter_side: int | None) -> None:
    """Write the first images of each class in turn as JPEG into folder/train and, one per class, into folder/test."""
    from PIL import Image

    if folder.is_dir():
        return
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    each = max(1, number // len(classes))
    for place in classes:
        for count, file in enumerate(sorted(path for path in place.iterdir() if path.is_file())[: each + 1]):
            target = folder / ("train" if count else "test") / place.name
            target.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as opened:
                image = opened.convert("RGB")
            if shorter_side is not None:
                factor = shorter_side / min(image.size)
                size = (round(factor * image.width), round(factor * image.height))
                image = image.resize(size, Image.Resampling.BICUBIC)
            image.save(target / f"{file.stem}.jpg", quality=JPEG_QUALITY)


def measure(name: str, images: Path, folder: Path, view: View, batches: int, cores: int) -> Run:
    """Return wall and CPU seconds per 1,000 images, and the memory in MB, of this process and its children."""
    import psutil
    import torch

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(1)  # as in DataLoader's workers: each loader has its own threads or processes
    stream = PEERS[name].batches(images, folder, view, cores)
    for _ in range(WARM_UP):
        first = next(stream)
    assert len(first) == (1 if view == "crop" else 2), (name, len(first))
    assert all(SIZE in part.shape[1:3] and len(part) == BATCH and str(part.dtype) == "uint8" for part in first)
    this = psutil.Process()

    def cpu_s() -> float:
        times = [process.cpu_times() for process in [this, *this.children(recursive=True)]]
        ended = sum(each.children_user + each.children_system for each in times)  # workers of earlier epochs
        return ended + sum(each.user + each.system for each in times)

    began, busy = time.perf_counter(), cpu_s()
    for _ in range(batches):
        next(stream)
    wall_s, used_s = time.perf_counter() - began, cpu_s() - busy
    memory = []
    for _ in range(3):
        next(stream)
        memory.append(sum(each.memory_full_info().pss for each in [this, *this.children(recursive=True)]))
    thousands = batches * BATCH / 1000
    return {
        "loader": name,
        "views": view,
        "wall_s_per_1000": wall_s / thousands,
        "cpu_s_per_1000": used_s / thousands,
        "memory_mb": max(memory) / 1e6,
    }


def _child(*arguments: object) -> Run:
    """Return the run of another process, or why it failed."""
    command = [sys.executable, "-m", "benchmarks.loaders", "--measure", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {LIMIT_S} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def report(runs: list[Run], missing: dict[str, str], out: Path, title: str) -> str:
    """Write the CSV, the table and the figure of all runs, and return the table."""
    with (out / "loaders.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(runs[0]))
        writer.writeheader()
        writer.writerows(runs)
    lines = [title, ""]
    medians: dict[str, dict[str, float]] = {}
    for view in ("crop", "moco"):
        of_view = [run for run in runs if run["views"] == view]
        names = list(dict.fromkeys(run["loader"] for run in of_view))
        found = {name: [run for run in of_view if run["loader"] == name] for name in names}
        values = {
            name: [
                statistics.median(run[key] for run in found[name])
                for key in ("wall_s_per_1000", "cpu_s_per_1000", "memory_mb")
            ]
            for name in names
        }
        medians[view] = {name: 1000 / values[name][1] for name in names}
        what = "Decode and one random resized crop" if view == "crop" else "Two views of MoCo v2"
        lines += [f"{what}:", "", "| loader | images/s | images per CPU-second | relative to fgssl | memory, MB |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for name in sorted(names, key=lambda name: values[name][1]):
            wall, used, memory = values[name]
            relative = f"{values['fgssl'][1] / used:.2f}" if "fgssl" in values else "–"
            lines.append(f"| {name} | {1000 / wall:.0f} | {1000 / used:.0f} | {relative} | {memory:.0f} |")
        lines.append("")
    lines += [f"- {name}: {why}" for name, why in missing.items()]
    text = "\n".join(lines) + "\n"
    (out / "loaders.md").write_text(text, encoding="utf-8")
    draw(medians, out / "loaders.png")
    return text


def draw(medians: dict[str, dict[str, float]], file: Path) -> None:
    """Draw the images per CPU-second of each loader, one panel per kind of views."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, (view, values) in zip(figure.subplots(1, 2), medians.items(), strict=True):
        names = sorted(values, key=lambda name: values[name])
        bars = axes.barh(names, [values[name] for name in names])
        axes.bar_label(bars, fmt="%.0f", padding=2)
        axes.set_title("decode and crop" if view == "crop" else "two views of MoCo v2", fontsize=10)
        axes.set_xlabel("images per CPU-second")
        axes.margins(x=0.2)
    figure.savefig(file, dpi=150)


@click.command(help=__doc__, context_settings={"max_content_width": 120})
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="IMAGES")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--shorter-side", type=int, help="Resize the images to this shorter side first; none leaves their size.")
@click.option("--images", "number", default=2000, show_default=True, help="Number of images, spread over the classes.")
@click.option("--batches", default=20, show_default=True, help=f"Measured batches of {BATCH} per run.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each loader, in turn with the others.")
@click.option("--cores", default=len(os.sched_getaffinity(0)), show_default=True, help="Cores of each loader.")
@click.option("--only", default=",".join(PEERS), help="Loaders, separated by commas; all by default.")
def main(
    source: Path, out: Path, shorter_side: int | None, number: int, batches: int, rounds: int, cores: int, only: str
) -> None:
    """Compare the loaders, and write the results to OUT."""
    images = out / f"images-{shorter_side or 'original'}-{number}"
    make_images(source, images, number, shorter_side)
    missing: dict[str, str] = {}
    ready: dict[str, Path] = {}
    for name in only.split(","):
        folder = out / f"{name.split()[0]}-{images.name}"
        if importlib.util.find_spec(PEERS[name].package) is None:
            missing[name] = "is not installed"
            continue
        if not folder.is_dir():
            shutil.rmtree(unfinished := folder.with_suffix(".unfinished"), ignore_errors=True)
            PEERS[name].prepare(images, unfinished)
            unfinished.rename(folder)
        ready[name] = folder
    runs: list[Run] = []
    for number_of_round in range(rounds):
        for view in ("crop", "moco"):
            for name in [name for name in ready if view in PEERS[name].views and f"{name} ({view})" not in missing]:
                run = _child(name, images, ready[name], view, batches, cores)
                if "failed" in run:
                    missing[f"{name} ({view})"] = f"failed: {run['failed']}"
                    continue
                runs.append({"round": number_of_round, **run})
                print(f"{name:>26} {view} {1000 / run['cpu_s_per_1000']:.0f} images per CPU-second", file=sys.stderr)
    size = f"shorter side {shorter_side}" if shorter_side else "original size"
    print(report(runs, missing, out, f"{number} images, {size}, batches of {BATCH}, {cores} cores, {rounds} rounds"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        loader, of_images, own_folder, views, *numbers = sys.argv[2:]
        view: View = "crop" if views == "crop" else "moco"
        print(json.dumps(measure(loader, Path(of_images), Path(own_folder), view, *map(int, numbers))), flush=True)
        os._exit(0)  # workers and threads of an endless stream need no farewell
    main()
