"""Inputs of runs: everything that is missing, and changes under finished runs."""

import dataclasses
import hashlib

import pytest

from fgssl.data.location import toy_manifest
from fgssl.errors import UserError
from fgssl.settings.config import StartSource
from fgssl.settings.data import ToySettings
from fgssl.settings.methods import CrossEntropySettings
from fgssl.store.files import record_json
from fgssl.store.records import TRAINED, Evaluation, Trained, evaluation_file
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from hpc.sweeps.plan_inputs import _longest, check_inputs, input_cautions, input_problems

TRAINED_ONCE = Trained(steps=1, wall_s=0.0, metrics={}, environments=(), data_version="v1", start={})
MEASURED = Evaluation(measures={"rank1": 1.0}, wall_s=0.0, code_version="c1", data_version="v1", device="cpu")


def _finish(small, run, **record):
    with RunFolder(small.out / "runs" / run.run).lease(run.config) as lease:
        lease.write("encoder.safetensors", b"weights")
        lease.write_record(TRAINED, dataclasses.replace(TRAINED_ONCE, **record))


def _measure(small, run):
    with RunFolder(small.out / "runs" / run.run).lease(run.config) as lease:
        lease.write_record(evaluation_file(run.config), MEASURED)


def _manifest(folder, source):
    folder.mkdir(parents=True, exist_ok=True)
    manifest = dataclasses.replace(toy_manifest(ToySettings()), dataset="birds", source=source)
    (folder / "manifest.json").write_text(manifest.to_json())
    for split in ("train", "test"):
        (folder / f"{split}-00000.h5").touch()
    return manifest.version


def test_nothing_is_missing_for_the_embedded_set(small):
    check_inputs(small.plan.runs, small.out, ())


def test_a_tracker_that_is_not_installed(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    runs = plan(expand(sweep_file, None, ["resources.trackers=[tensorboard]"])).runs
    with pytest.raises(UserError) as caught:
        check_inputs(runs, tmp_path / "out", ())
    told = "resources.trackers: tensorboard is not installed: pip install tensorboard, or leave it out"
    assert str(caught.value) == told
    assert (
        input_problems(runs, tmp_path / "out", None) == []
    )  # jobs that have another Python, for this one has no torch


def test_everything_missing_at_once(small, sweep_file, tmp_path):
    overrides = [
        "data.dataset=birds",
        f"data.folder={tmp_path / 'shards'}",
        f"arms.base.settings.start.encoder={{stage: null, file: {tmp_path / 'one.pth'}}}",
        f"arms.grad_cam.settings.start.encoder={{stage: null, file: {tmp_path / 'two.pth'}}}",
    ]
    with pytest.raises(UserError) as caught:
        check_inputs(plan(expand(sweep_file, None, overrides)).runs, small.out, ())
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert f"{tmp_path / 'shards'} does not exist" in lines[0]
    assert "`fgssl pack` has no source named 'birds' yet" in lines[0]
    assert {line.split(": ")[1] for line in lines[1:]} == {str(tmp_path / "one.pth"), str(tmp_path / "two.pth")}


def test_a_problem_has_the_line_of_its_setting(small, sweep_file):
    grid = expand(sweep_file, None, ["data.dataset=birds", "data.folder=shard"])
    [line] = input_problems(plan(grid).runs, small.out, (), grid.settings.settings)
    assert line.startswith("command line: data.folder: shard does not exist: ")
    sweep_file.write_text(sweep_file.read_text().replace("data: {toy:", "data: {dataset: birds, folder: no, toy:"))
    grid = expand(sweep_file)
    [line] = input_problems(plan(grid).runs, small.out, (), grid.settings.settings)
    number = 1 + next(n for n, text in enumerate(sweep_file.read_text().splitlines()) if "folder: no" in text)
    assert line.startswith(f"{sweep_file}:{number}: settings.data.folder: no does not exist: ")


def test_a_start_run_that_is_neither_planned_nor_trained(small, sweep_file):
    overrides = ["arms.base.settings.start.encoder={stage: null, run: mocov2-seed9}", "data.folder=/nowhere"]
    made = plan(expand(sweep_file, None, overrides))
    with pytest.raises(UserError) as caught:
        check_inputs(made.runs, small.out, ())
    lines = str(caught.value).splitlines()
    assert any("/nowhere" in line for line in lines)
    [line] = [line for line in lines if line.startswith("start.encoder.run: mocov2-seed9")]
    assert "give the name of a trained run" in line

    made = plan(expand(sweep_file, None, overrides[:1]))
    folder = small.out / "runs" / "mocov2-seed9"
    folder.mkdir(parents=True)
    (folder / "encoder.safetensors").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"start\.encoder\.run: mocov2-seed9"):  # its training is not complete
        check_inputs(made.runs, small.out, ())
    (folder / "trained.json").write_text(record_json(TRAINED_ONCE))
    check_inputs(made.runs, small.out, ())
    (folder / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match=r"start\.encoder\.run: mocov2-seed9"):
        check_inputs(made.runs, small.out, ())


def test_cuda_without_a_gpu(small, sweep_file):
    runs = plan(expand(sweep_file, None, ["resources.device=cuda"])).runs
    with pytest.raises(UserError, match=r"^resources\.device: cuda: this machine has no GPU.*auto or cpu$"):
        check_inputs(runs, small.out, ())
    check_inputs(runs, small.out, ["0"])


def test_finished_runs_of_other_data(small, sweep_file, tmp_path):
    made = plan(expand(sweep_file, None, ["data.dataset=birds", f"data.folder={tmp_path / 'shards'}"]))
    old = _manifest(tmp_path / "shards", "first packing")
    _finish(small, made.runs[0], data_version=old)
    check_inputs(made.runs, small.out, ())
    new = _manifest(tmp_path / "shards", "second packing")
    with pytest.raises(UserError, match=rf"trained on other data, version {old[:12]}.*now holds {new[:12]}"):
        check_inputs(made.runs, small.out, ())


def test_finished_runs_of_other_weights(small):
    pretrain, decoder = small.plan.runs[:2]
    digest = hashlib.sha256(b"weights").hexdigest()
    _finish(small, pretrain, start={"encoder": None, "decoder": None})
    _finish(small, decoder, start={"encoder": digest, "decoder": None})
    check_inputs(small.plan.runs, small.out, ())
    (small.out / "runs" / pretrain.run / "encoder.safetensors").write_bytes(b"trained again")
    with pytest.raises(UserError, match=r"another start\.encoder.*delete this run folder"):
        check_inputs(small.plan.runs, small.out, ())


def test_a_finished_run_needs_nothing_any_more(small, sweep_file, tmp_path):
    overrides = ["arms.grad_cam=null", "data.dataset=birds", f"data.folder={tmp_path / 'gone'}", "seeds=[0]"]
    [pretrain, base] = plan(expand(sweep_file, None, overrides)).runs
    for run in (pretrain, base):
        _finish(small, run, data_version="a" * 64)
    _measure(small, base)
    check_inputs([pretrain, base], small.out, ())


def test_what_the_data_lacks_is_told_once_and_nothing_is_written(small, sweep_file):
    overrides = ["evaluation.label_level=2", "training.global_batch_size=256", "method.base.queue_size=256"]
    problems = input_problems(plan(expand(sweep_file, None, overrides)).runs, small.out, ())
    assert [problem.split(":")[0] for problem in problems] == ["evaluation.label_level", "training.global_batch_size"]
    assert "256 exceeds the 144 training images of dataset 'toy'" in problems[1]
    assert problems[1].endswith("take training.global_batch_size 128, method.base.queue_size 128")
    with pytest.raises(UserError) as caught:
        check_inputs(plan(expand(sweep_file, None, overrides)).runs, small.out, ())
    assert str(caught.value).splitlines() == problems
    assert list(small.out.iterdir()) == []


def test_what_packed_data_lack(small, sweep_file, tmp_path):
    version = _manifest(tmp_path / "shards", "test")
    overrides = ["data.dataset=birds", f"data.folder={tmp_path / 'shards'}", "evaluation.nuisances={light: [light]}"]
    made = plan(expand(sweep_file, None, overrides))
    problems = input_problems(made.runs, small.out, ())
    assert len(problems) == 1
    assert problems[0].startswith("evaluation.nuisances.light: unknown attribute 'light'")
    for run in made.runs:
        _finish(small, run, data_version=version)
    assert input_problems(made.runs, small.out, ()) == problems  # trained, not measured
    for run in made.runs:
        if run.config.evaluation is not None:
            _measure(small, run)
    assert input_problems(made.runs, small.out, ()) == []


def test_every_network_that_a_run_starts_from_is_looked_for(small, tmp_path):
    file = tmp_path / "classifier.pth"
    first = small.plan.runs[0]
    start = dataclasses.replace(first.config.start, classifier=StartSource(file=str(file)))
    config = dataclasses.replace(first.config, method=CrossEntropySettings(), start=start)
    [problem] = input_problems([dataclasses.replace(first, config=config)], small.out, ())
    assert problem.startswith(f"start.classifier.file: {file}: no such file")


def test_a_caution_is_told_once_and_not_of_finished_runs(small, sweep_file, tmp_path):
    assert input_cautions(small.plan.runs, small.out) == []
    runs = plan(expand(sweep_file, None, ["method.base.queue_size=256"])).runs
    # The built-in dataset before it is packed has 24 species of 6 images.
    [caution] = input_cautions(runs, small.out)
    assert caution.startswith("queue_size 256 exceeds the 144 training images of dataset 'toy'")
    for run in runs:
        _finish(small, run)
        if run.config.evaluation is not None:
            _measure(small, run)
    assert input_cautions(runs, small.out) == []
    # What is not there is no matter of cautions.
    gone = plan(expand(sweep_file, None, ["data.dataset=birds", f"data.folder={tmp_path / 'gone'}"]))
    assert input_cautions(gone.runs, small.out) == []


def test_shards_that_are_missing_or_cut_short_stand_in_one_line(small, sweep_file, tmp_path):
    shards = tmp_path / "shards"
    _manifest(shards, "test")
    runs = plan(expand(sweep_file, None, ["data.dataset=birds", f"data.folder={shards}"])).runs
    assert input_problems(runs, small.out, ()) == []
    (shards / "train-00000.h5").unlink()
    (shards / "test-00000.h5").write_bytes(b"more")
    assert input_problems(runs, small.out, ()) == [
        f"data.folder: {shards} is incomplete: train-00000.h5 is missing; test-00000.h5 has 4 bytes instead of 0: copy "
        "it again with all its files, or pack the dataset again"
    ]


def test_mirrored_traffic_signs_are_a_caution(small, sweep_file, tmp_path):
    shards = tmp_path / "shards"
    _manifest(shards, "gtsrb")
    overrides = ["data.dataset=birds", f"data.folder={shards}"]
    [caution] = input_cautions(plan(expand(sweep_file, None, overrides)).runs, small.out)
    assert caution.endswith("another sign (keep left, keep right): set views.horizontal_flip=false")
    unmirrored = plan(expand(sweep_file, None, [*overrides, "views.horizontal_flip=false"]))
    assert input_cautions(unmirrored.runs, small.out) == []


def test_lines_that_begin_like_another():
    folders = ["data.folder: /data/cub", "data.folder: /data/cub200"]
    longer = ["a: take b 1, method.base.queue_size 2", "data.folder: /data/cub200: pack it"]
    lines = ["a: take b 1", *folders, *longer, "a: take b 1, method.queue_size 2", longer[0]]
    assert _longest(lines) == ["data.folder: /data/cub", *longer]
