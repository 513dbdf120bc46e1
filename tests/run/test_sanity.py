"""A small sweep with all sanity rows, from its file to its tables."""

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import fgssl
from fgssl.errors import UserError
from fgssl.report.aggregate import aggregate
from fgssl.report.figures.records import Records
from fgssl.report.seeds import seeds_line
from fgssl.run.execution import execute
from fgssl.store.features import read_features
from fgssl.store.files import record_json
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import SweepPlan, plan

Table: TypeAlias = dict[tuple[str, str], dict[Hashable, Any]]
SANITY = ["pixels", "random_weights", "start_encoder", "chance"]
SWEEP = f"""
name: small
baseline: simclr
primary: rank1
seeds: [0, 1]
settings:
  data: {{toy: {{image_size: 16, train_images_per_species: 4, test_images_per_species: 3}}}}
  views: {{image_size: 16}}
  encoder: {{name: resnet18, arguments: {{channels: [8, 8, 8, 8], layers: [1, 1, 1, 1]}}, batch_norm_group_size: 16}}
  start: {{encoder: {{stage: pretrain}}}}
  method: {{name: simclr, hidden_width: 8, projection_width: 8}}
  training: {{epochs: 1, global_batch_size: 32}}
  evaluation: {{linear: null, knn: {{}}, nuisances: {{light: [brightness]}}, keep_features: float32}}
  resources: {{device: cpu}}
stages:
  pretrain: {{start: {{encoder: null}}}}
arms:
  simclr: {{}}
  supcon: {{settings: {{method: {{name: supcon}}}}}}
sanity: [{", ".join(SANITY)}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepPlan, Path]:
    """The plan of the sweep, whose runs are done, and its output folder."""
    folder = tmp_path_factory.mktemp("sanity")
    (folder / "sweep.yaml").write_text(SWEEP)
    planned, out = plan(expand(folder / "sweep.yaml")), folder / "out"
    for run in planned.runs:
        execute(run.config, out)
    (out / "plan.json").write_text(record_json(planned.record()))
    return planned, out


@pytest.fixture(scope="module")
def table(made: tuple[SweepPlan, Path]) -> Table:
    return {(entry["cell"], entry["metric"]): entry for entry in aggregate(made[1]).to_dict("records")}


def test_sanity_rows_have_every_measure_and_no_comparison(table: Table) -> None:
    rows = [entry for (cell, _), entry in table.items() if cell in SANITY]
    assert len(rows) == 4 * 5
    assert {(entry["n"], entry["family"], entry["delta_n"]) for entry in rows} == {(2, "sanity", 0)}
    compared = ("delta_baseline", "p", "p_holm", "smallest_difference")
    assert all(math.isnan(entry[column]) for entry in rows for column in compared)
    supcon = table["supcon", "rank1"]
    assert supcon["p"] == supcon["p_holm"]  # a family of one
    assert supcon["delta_n"] == 2


def test_they_stand_in_a_block_without_emphasis(table: Table, made: tuple[SweepPlan, Path]) -> None:
    text = (made[1] / "table.md").read_text()
    arms, block, rest = text.split(":\n\n| cell")[1:4]
    assert [line.split()[1] for line in block.splitlines()[2:] if line.startswith("|")] == SANITY
    assert "_" not in block.split("|")[-3]
    assert "**" not in block
    assert not any(f"| {name} " in part for part in (arms, rest) for name in SANITY)


def test_chance_is_chance_and_pixels_are_not(table: Table) -> None:
    """24 species of three test images: a random neighbor is of the same with probability 2/71."""
    error = 100 * math.sqrt(2 / 71 * 69 / 71 / (2 * 72))
    assert abs(table["chance", "rank1"]["mean"] - 100 * 2 / 71) < 4 * error
    assert table["pixels", "nuisance_light"]["mean"] > 30
    assert table["chance", "nuisance_light"]["mean"] < 10


def test_pixels_are_the_same_at_every_seed_and_centered(made: tuple[SweepPlan, Path]) -> None:
    folders = [RunFolder.in_output(made[1], made[0].of_cell["pixels", seed].run) for seed in (0, 1)]
    kept = [read_features(folder.features) for folder in folders]
    assert kept[0] is not None
    assert kept[1] is not None
    train = kept[0].splits["train"].astype(np.float64)
    assert np.array_equal(kept[0].splits["test"], kept[1].splits["test"])
    assert np.abs(train.mean(axis=0)).max() < 1e-6
    assert (train**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    assert train.shape[1] == 3 * 16 * 16


def test_random_weights_are_not_the_start_weights(made: tuple[SweepPlan, Path]) -> None:
    encoders = {
        cell: RunFolder.in_output(made[1], made[0].of_cell[cell, 0].run).encoder.read_bytes()
        for cell in ("random_weights", "start_encoder")
    }
    (pretrain,) = [run for run in made[0].runs if run.stage is not None and run.seed == 0]
    assert encoders["start_encoder"] == RunFolder.in_output(made[1], pretrain.run).encoder.read_bytes()
    assert encoders["random_weights"] != encoders["start_encoder"]


def test_a_stand_in_is_no_encoder_to_load(made: tuple[SweepPlan, Path]) -> None:
    for cell in ("pixels", "chance"):
        folder = RunFolder.in_output(made[1], made[0].of_cell[cell, 0].run)
        assert not (folder.path / "encoder.json").exists()
        with pytest.raises(UserError, match=f"holds no encoder: method {cell} trains none"):
            fgssl.load_encoder(folder.path)


def test_figures_of_single_images_and_the_number_of_seeds_leave_them_out(made: tuple[SweepPlan, Path]) -> None:
    records = Records(made[1])
    arms = {"simclr", "supcon"}
    assert {one.cell for one in records["embeddings"]} == arms
    assert records["outcomes"].cells.keys() == arms
    assert {row["cell"] for row in records["rows"]} == {*arms, *SANITY}
    line = seeds_line(records["plan"], records["rows"])
    assert line is not None
    assert line.endswith("(that of the 2 finished pairs)")
