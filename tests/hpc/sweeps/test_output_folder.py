"""Plans that may replace the plan in an output folder."""

import dataclasses
import json

import pytest

from fgssl.errors import UserError
from fgssl.store.files import record_json
from fgssl.store.records import TRAINED, Trained
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.output_folder import CLUSTER_SWEEP, check_kept_plan, replaced_plan
from hpc.sweeps.plan import plan
from hpc.sweeps.submission import submission_folder

FREE = ("resources.threads=7", "data.folder=elsewhere", "evaluation.keep_features=float32")
"""Overrides that change no result."""


@pytest.fixture
def kept(small):
    """Return the small sweep with its plan and a trained run of a cell in its output folder."""
    (small.out / "plan.json").write_text(record_json(small.plan.record()))
    _train(small, small.plan.of_cell["base", 0])
    return small


def _train(small, run):
    with RunFolder.in_output(small.out, run.run).lease(run.config) as lease:
        lease.write_record(
            TRAINED, Trained(steps=1, wall_s=0.0, metrics={}, environments=(), data_version="v1", start={})
        )


def _check(kept, *overrides):
    check_kept_plan(plan(expand(kept.file, None, overrides)), kept.out)


def _refusal(kept, *overrides):
    with pytest.raises(UserError) as caught:
        _check(kept, *overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        *("title=Small", "seeds=[1]", "seeds=[0, 1, 2]", "arms.grad_cam=null", "baseline=null", "resources.threads=7"),
        "arms.grad_cam.grid.method.noise.sigma_grad_cam=[0.5, 2.0]",
        "evaluation.keep_features=float32",
    ],
)
def test_other_seeds_and_cells_are_the_same_table(kept, override):
    _check(kept, override)


def test_an_empty_folder_takes_every_plan(small):
    check_kept_plan(small.plan, small.out)
    check_kept_plan(small.plan, small.out / "none")


def test_a_cell_that_means_another_run(kept):
    lines = _refusal(kept, "method.pair_weight=0.25", "arms.base.settings.training.epochs=2").splitlines()
    assert lines[0] == f"{kept.out / 'plan.json'}: is the plan of a table of other runs:"
    assert lines[1] == "  base, seed 0: training.epochs 100 there, 2 now"
    assert lines[3] == "  grad_cam sigma_grad_cam=0.25, seed 0: method.pair_weight 0.5 there, 0.25 now"
    assert lines[4] == "  and 3 more"
    assert "give --out DIR" in lines[5]
    assert "its runs are kept" in lines[5]


def test_a_changed_stage_changes_what_starts_from_it(kept):
    assert f"base, seed 0: start.encoder.run {kept.run('pretrain')} there" in _refusal(
        kept, "stages.pretrain.training.epochs=9"
    )


def test_numbers_that_are_measured_in_another_way(kept):
    refusal = _refusal(kept, "evaluation.label_level=1", "evaluation.collapse=true", "seeds=[1]", *FREE)
    assert "base, seed 1: evaluation.label_level 0 there, 1 now; evaluation.collapse False there, True now" in refusal
    assert not any(key in refusal for key in ("resources", "data.folder", "keep_features"))


def test_a_plan_from_before_a_key_was_there(kept):
    content = dataclasses.asdict(kept.plan.record())
    for cell in content["cells"]:
        for run in cell["runs"]:
            del run["config"]["evaluation"]["keep_features"]
    (kept.out / "plan.json").write_text(json.dumps(content))
    _check(kept)


def test_a_plan_of_a_version_without_a_setting_is_the_same_table(kept):
    record = dataclasses.asdict(kept.plan.record())
    for cell in record["cells"]:
        for run in cell["runs"]:
            del run["config"]["evaluation"]["collapse"]
    (kept.out / "plan.json").write_text(json.dumps(record))
    _check(kept)
    assert "evaluation.collapse False there, True now" in _refusal(kept, "evaluation.collapse=true")


def test_another_sweep(kept):
    refusal = _refusal(kept, "name=other")
    assert "is the plan of sweep 'small', not of 'other'\nTo go on: give --out DIR" in refusal


@pytest.mark.parametrize(
    ("content", "words"), [("{", "Expecting"), ('{"schema": 1}', "schema is 1, but this version of fgssl reads 2")]
)
def test_a_plan_that_cannot_be_read(kept, content, words):
    (kept.out / "plan.json").write_text(content)
    refusal = _refusal(kept)
    assert f"{kept.out / 'plan.json'}: cannot be read as a record of kind PlanRecord ({words}" in refusal
    assert "give --out DIR" in refusal


def test_a_plan_of_an_empty_table_is_replaced_with_a_warning(small):
    (small.out / "plan.json").write_text(record_json(small.plan.record()))
    first = small.plan.runs[0]
    folder = RunFolder.in_output(small.out, first.run)
    with folder.lease(first.config) as lease:
        lease.write("failure.txt", "no labels")
        assert "training.epochs 100 there, 2 now" in _refusal(small, "arms.base.settings.training.epochs=2")  # at work
    _train(small, first)  # a stage, which the new plan uses too
    other = plan(expand(small.file, None, ["seeds=[0]", "arms.base.settings.training.epochs=2"]))
    check_kept_plan(other, small.out)
    assert replaced_plan(other, small.out) == [
        f"{small.out / 'plan.json'}: its table is empty, so this sweep replaces it; it is the plan of a table of other "
        "runs: base, seed 0: training.epochs 100 there, 2 now"
    ]
    assert replaced_plan(small.plan, small.out) == []
    _check(small, "name=other")
    with submission_folder(small.out):
        assert "wait until the sweep that is at work there has ended" in _refusal(small, "name=other")
        _check(small, "seeds=[0]")
    _check(small, "name=other")
    (small.out / CLUSTER_SWEEP).parent.mkdir()
    (small.out / CLUSTER_SWEEP).touch()
    assert "is the plan of sweep 'small', not of 'other'" in _refusal(small, "name=other")
