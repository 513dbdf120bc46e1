"""States of runs from their folders."""

import json

import pytest

from fgssl.store.records import TRAINED, Evaluation, Trained, evaluation_file
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from hpc.sweeps.plan_inputs import check_inputs
from hpc.sweeps.state import State, states

TRAINED_ONCE = Trained(steps=1, wall_s=0.0, metrics={}, environments=(), data_version="v1", start={})
MEASURED = Evaluation(measures={"rank1": 1.0}, wall_s=0.0, code_version="c1", data_version="v1", device="cpu")


@pytest.fixture
def by_kind(small):
    """Return {stage or cell: run} for seed 0."""
    return {run.label.removesuffix(", seed 0"): run for run in small.plan.runs if run.seed == 0}


def _trained(small, run):
    with RunFolder(small.out / "runs" / run.run).lease(run.config) as lease:
        lease.write_record(TRAINED, TRAINED_ONCE)


def _failed(small, run):
    with RunFolder(small.out / "runs" / run.run).lease(run.config) as lease:
        lease.write("failure.txt", "Traceback")


def test_an_empty_folder(small):
    assert small.states()["pretrain, seed 0"] is State.PENDING
    assert small.states()["decoder, seed 0"] is State.WAITING
    assert small.states()["base, seed 0"] is State.WAITING
    assert not (small.out / "runs").exists()  # looking writes nothing


def test_a_stage_is_done_when_trained_a_cell_when_measured(small, by_kind):
    _trained(small, by_kind["pretrain"])
    assert small.states()["pretrain, seed 0"] is State.DONE
    assert small.states()["base, seed 0"] is State.PENDING
    _trained(small, by_kind["base"])
    assert small.states()["base, seed 0"] is State.PENDING
    with RunFolder(small.out / "runs" / by_kind["base"].run).lease(by_kind["base"].config) as lease:
        lease.write_record(evaluation_file(by_kind["base"].config), MEASURED)
    assert small.states()["base, seed 0"] is State.DONE


def test_a_run_of_the_plan_that_is_named_as_start_is_waited_for(small, sweep_file):
    named = small.run("pretrain", 0)
    overrides = ["seeds=[0]", f"arms.base.settings.start.encoder={{stage: null, run: {named}}}"]
    small.plan = plan(expand(sweep_file, None, overrides))
    check_inputs(small.plan.runs, small.out, ())  # it need not be there yet
    assert small.states()["base, seed 0"] is State.WAITING


def test_running_while_the_lease_is_held_whatever_lies_there(small, by_kind):
    _failed(small, by_kind["pretrain"])
    with RunFolder(small.out / "runs" / by_kind["pretrain"].run).lease(by_kind["pretrain"].config):
        assert small.states()["pretrain, seed 0"] is State.RUNNING
        assert small.states()["decoder, seed 0"] is State.WAITING
    assert small.states()["pretrain, seed 0"] is State.FAILED


def test_a_failure_skips_what_needs_it_and_what_needs_that(small, by_kind):
    _failed(small, by_kind["pretrain"])
    found = small.states()
    skipped = {label for label, state in found.items() if state is State.SKIPPED}
    assert skipped == {label for label in found if label.endswith("seed 0")} - {"pretrain, seed 0"}
    assert found["pretrain, seed 1"] is State.PENDING


def test_a_failure_that_could_not_be_written_down(small, by_kind):
    found = states(small.plan.runs, small.out, {by_kind["pretrain"].run: "disk full"})
    assert found[by_kind["pretrain"].key] is State.FAILED
    assert found[by_kind["decoder"].key] is State.SKIPPED


def test_what_needs_a_run_does_not_wait_for_its_evaluation(small, sweep_file):
    small.plan = plan(expand(sweep_file, None, ["stages.pretrain.evaluation={label_level: 1}"]))
    pretrain = small.plan.runs[0]
    _trained(small, pretrain)
    assert small.states()["pretrain, seed 0"] is State.PENDING
    assert small.states()["decoder, seed 0"] is State.PENDING
    _failed(small, pretrain)  # the evaluation failed
    assert small.states()["decoder, seed 0"] is State.PENDING


def test_a_leftover_lease_file_of_a_dead_process_holds_nothing(small, by_kind):
    folder = small.out / "runs" / by_kind["pretrain"].run
    folder.mkdir(parents=True)
    (folder / "lease").write_text(json.dumps({"attempt": "x", "pid": 1, "host": "elsewhere"}))
    assert small.states()["pretrain, seed 0"] is State.PENDING
