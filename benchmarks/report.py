"""Time and memory of `fgssl aggregate` and `fgssl report` for a sweep of many finished runs, made up.

    python -m benchmarks.report OUT [--runs 200] [--images 2000] [--width 256]

It writes the runs of a sweep with a grid into OUT, each with measures, outcomes of test images and features, and
prints CPU-seconds in total and per run, and the peak of memory.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgssl.data.location import ensure_toy
from fgssl.data.shards import ShardedSplit
from fgssl.settings.config import Config
from fgssl.store.features import KeptFeatures, Origin
from fgssl.store.files import record_json, write_atomically
from fgssl.store.outcomes import Outcomes
from fgssl.store.plan import PLAN
from fgssl.store.records import TRAINED, Environment, Evaluation, Trained, evaluation_file, outcomes_file
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan

SEEDS = 5
SPECIES = 24
SWEEP = """\
name: many
title: Many runs
baseline: base
primary: linear_100
seeds: {seeds}
settings:
  data: {{toy: {{train_images_per_species: {train}, test_images_per_species: {test}, image_size: 32}}}}
  views: {{image_size: 32}}
  encoder: {{name: resnet18, arguments: {{channels: [8, 8, 8, 8], layers: [1, 1, 1, 1]}}}}
  method: {{name: simclr}}
arms:
  base: {{}}
  strength: {{grid: {{method.temperature: {values}}}}}
"""


def main() -> None:
    """Write the sweep, and measure both commands in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="test images")
    parser.add_argument("--width", type=int, default=256, help="dimensions of the features")
    given = parser.parse_args()
    write_sweep(given.out, given.runs // SEEDS, given.images // SPECIES, given.width)
    for command in ("aggregate", "report", "report"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fgssl", command, str(given.out)], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"{command:9} {seconds:6.1f} CPU-s, {1000 * seconds / given.runs:.0f} ms a run, peak so far "
            f"{after.ru_maxrss / 1024:,.0f} MiB",
            flush=True,
        )


def write_sweep(out: Path, cells: int, test: int, width: int) -> None:
    """Write a sweep of finished runs, whose features separate the genera more or less."""
    out.mkdir(parents=True)
    file = out / "many.yaml"
    values = [round(0.2 + 0.01 * cell, 2) for cell in range(cells - 1)]
    file.write_text(SWEEP.format(seeds=list(range(SEEDS)), train=8, test=test, values=values), encoding="utf-8")
    planned = plan(expand(file, None, []))
    write_atomically(out / PLAN, record_json(planned.record()))
    images: dict[str, ShardedSplit] = {}
    runs = [run for cell in planned.record().cells for run in cell.runs]
    for number, run in enumerate(runs):
        if not images:
            shards = ensure_toy(run.config.data, out / "data")
            images = {split: ShardedSplit(shards, split) for split in ("train", "test")}
        finish(RunFolder.in_output(out, run.run), run.config, images, np.random.default_rng(number), width)


def finish(
    folder: RunFolder, config: Config, images: dict[str, ShardedSplit], random: np.random.Generator, width: int
) -> None:
    """Write the records of one finished run."""
    version, labels = images["test"].version, images["test"].labels[:, 0]
    made_by = Environment(code_version="c", processes=1, engine="ddp", threads=1, device="cpu", versions={"torch": "2"})
    found = Outcomes()
    for column in ("linear_100", "linear_50", "linear_20"):
        found.classified(column, np.where(random.random(len(labels)) < 0.6, labels, 0), labels)
    found.ranked(random.geometric(0.5, len(labels)), random.random(len(labels)))
    kept = {split: features(one, width, random) for split, one in images.items()}
    with folder.lease(config) as lease:
        lease.write_record(
            TRAINED,
            Trained(steps=10, wall_s=60.0, metrics={}, environments=(made_by,), data_version=version, start={}),
        )
        lease.write(outcomes_file(config), found.to_bytes())
        origin = Origin(data_version=version)
        lease.write(
            folder.features.name,
            KeptFeatures(splits=kept, encoded_by=dict.fromkeys(kept, "c"), origin=origin).to_bytes(),
        )
        assert config.evaluation is not None
        measures = {column.name: float(random.normal(50, 2)) for column in config.evaluation.columns}
        lease.write_record(
            evaluation_file(config),
            Evaluation(measures=dict(measures), wall_s=5.0, code_version="c", data_version=version, device="cpu"),
        )
    lines = "".join(f'{{"step": {step}, "loss": {5 - step / 100}}}\n' for step in range(1, 101))
    folder.metrics.write_text(lines, encoding="utf-8")


def features(images: ShardedSplit, width: int, random: np.random.Generator) -> NDArray[np.float16]:
    """Return features (N, D) of a split."""
    rows = random.normal(scale=0.4, size=(len(images), width))
    rows[np.arange(len(images)), images.labels[:, 1]] += 3
    return rows.astype(np.float16)


if __name__ == "__main__":
    main()
