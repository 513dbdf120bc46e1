"""Plans: one run per cell and seed, shared runs once, in topological order; and their record for `aggregate`."""

import math
from pathlib import Path

import pytest

from fgssl.settings.fingerprints import run_name, training_fingerprint
from fgssl.settings.layers import to_yaml
from fgssl.store.files import record_json
from fgssl.store.plan import read_plan
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan

REFERENCE = "dataset,tau,linear_100\nbirds,0.02,66.17\nbirds,inf,66.05\n"


def test_shared_stages_once_per_seed_and_needs_first(small):
    kinds = [(run.stage, run.seed) for run in small.plan.runs]
    assert kinds[:4] == [("pretrain", 0), ("decoder", 0), ("pretrain", 1), ("decoder", 1)]
    assert kinds[4:] == [(None, 0)] * 3 + [(None, 1)] * 3
    assert len({run.key for run in small.plan.runs}) == 10
    before: set[str] = set()
    for run in small.plan.runs:
        assert set(run.needs) <= before
        before.add(run.run)


def test_starts_are_runs_of_the_same_seed(small):
    for seed in (0, 1):
        config = small.plan.of_cell["grad_cam sigma_grad_cam=0.5", seed].config
        assert config.seed == seed
        assert config.start.encoder.run == small.run("pretrain", seed)
        assert config.start.decoder.run == small.run("decoder", seed)
        assert small.run("pretrain", seed).startswith(f"mocov2-seed{seed}-")
    base = small.plan.of_cell["base", 0]
    assert base.needs == (small.run("pretrain", 0),)


def test_a_stage_that_nobody_needs_is_not_run(sweep_file):
    runs = plan(expand(sweep_file, None, ["arms.grad_cam=null"])).runs
    assert {run.stage for run in runs} == {"pretrain", None}


def test_a_stage_that_is_also_a_cell_runs_once_and_is_measured(sweep_file):
    overrides = ["arms.base.settings.training.epochs=3", "arms.base.settings.start={encoder: null, decoder: null}"]
    made = plan(expand(sweep_file, None, overrides))
    runs = [run.run for run in made.runs]
    assert len(runs) == len(set(runs)) == 8
    base = made.of_cell["base", 0]
    assert base.config.evaluation is not None
    assert base.run in made.of_cell["grad_cam sigma_grad_cam=0.5", 0].needs
    assert made.runs.index(base) < made.runs.index(made.of_cell["grad_cam sigma_grad_cam=0.5", 0])


def test_cells_that_differ_in_their_evaluation_share_a_training(sweep_file):
    made = plan(expand(sweep_file, None, ["arms.grad_cam.grid.evaluation.label_level=[0, 1]", "seeds=[0]"]))
    cells = [run for run in made.runs if run.stage is None and "label_level" in run.label]
    assert len(cells) == 4
    assert len({run.run for run in cells}) == 2


def test_the_plan_is_what_aggregate_reads(small):
    (small.out / "plan.json").write_text(record_json(small.plan.record()))
    read = read_plan(small.out)
    assert (read.sweep, read.dataset, read.baseline, read.preset) == ("small", "toy", "base", "")
    assert read.grid_keys == ["method.noise.sigma_grad_cam"]
    assert read.metrics == ["linear_100", "linear_50", "linear_20", "rank1", "rank5", "mAP"]
    assert [cell.cell for cell in read.cells] == [cell.name for cell in small.plan.grid.cells]
    assert [stage.stage for stage in read.stages] == ["pretrain", "decoder", "pretrain", "decoder"]
    for run in [*read.stages, *(run for cell in read.cells for run in cell.runs)]:
        assert run_name(run.config) == run.run


@pytest.fixture
def tau_sweep(tmp_path: Path) -> Path:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "tau.csv").write_text(REFERENCE)
    arm = {
        "settings": {"method": {"name": "synthesized", "base": {"queue_size": 128}}, "views": {"image_size": 32}},
        "grid": {"method.noise.threshold": [0.01, 0.02, math.inf]},
        "reference": {"table": "tau", "match": {"tau": "method.noise.threshold"}},
    }
    file = tmp_path / "tau.yaml"
    file.write_text(to_yaml({"name": "tau", "arms": {"both": arm}}))
    return file


def test_references_only_for_the_published_dataset_and_points(tau_sweep):
    assert plan(expand(tau_sweep, None, ["data.dataset=birds"])).record().reference == {
        "both threshold=0.02": {"linear_100": 66.17},
        "both threshold=inf": {"linear_100": 66.05},
    }
    assert plan(expand(tau_sweep)).record().reference == {}


def test_infinity_survives_the_plan(tau_sweep, tmp_path):
    made = plan(expand(tau_sweep))
    (tmp_path / "plan.json").write_text(record_json(made.record()))
    last = read_plan(tmp_path).cells[-1]
    assert last.grid == {"method.noise.threshold": math.inf}
    assert training_fingerprint(last.runs[0].config) == training_fingerprint(made.of_cell[last.cell, 0].config)
