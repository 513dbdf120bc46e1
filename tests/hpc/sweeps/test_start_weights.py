"""Start weights are tried once before a sweep, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import JsonValue

from fgssl.encoders.build import build_encoder
from fgssl.errors import UserError
from fgssl.settings.encoder import EncoderSettings
from fgssl.store.records import TRAINED, Trained
from fgssl.store.run_folder import RunFolder
from hpc.local.sweep import run_here
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import SweepPlan, plan
from hpc.sweeps.start_weights import start_weight_problems
from hpc.sweeps.state import states

TINY: dict[str, JsonValue] = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return dict(build_encoder(EncoderSettings(name="resnet18", arguments=TINY), 32).state_dict())


def _plan(sweep_file: Path, *starts: str) -> SweepPlan:
    """Return the plan of the small sweep, whose arms start from these values of `start.encoder`, two seeds each."""
    encoder = "settings.encoder={name: resnet18, arguments: {channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}}"
    arms = [
        f"arms.{arm}.settings.start.encoder={{stage: null, {start}}}"
        for arm, start in zip(("base", "grad_cam"), starts, strict=False)
    ]
    return plan(expand(sweep_file, None, [encoder, *arms]))


def test_each_file_that_does_not_fit_is_named_once(sweep_file, tmp_path, state, capfd):
    both, wrong = tmp_path / "both.pth", tmp_path / "wrong.pth"
    torch.save({"state_dict": state, "state_dict_ema": state}, both)
    torch.save({"conv1.weight": state["conv1.weight"]}, wrong)
    made = _plan(sweep_file, f"file: {both}", f"file: {wrong}")
    first, second = start_weight_problems(made.runs, tmp_path / "out")
    assert first.startswith(f"start.encoder.file: {both}: holds 2 networks that fit")
    assert second.startswith(
        f"start.encoder.file: {wrong}: weights of another architecture:\n  missing bn1.weight (64,)\n"
    )

    made = _plan(sweep_file, f"file: {both}, prefix: state_dict_ema")
    assert start_weight_problems(made.runs, tmp_path / "out") == []
    assert capfd.readouterr().err == f"start.encoder: the weights below the prefix state_dict_ema of {both}\n"


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_sweep_with_a_wrong_file_does_not_start(sweep_file, tmp_path, state, dry_run):
    file, out = tmp_path / "wrong.pth", tmp_path / "out"
    torch.save({"conv1.weight": state["conv1.weight"]}, file)
    made = _plan(sweep_file, f"file: {file}")
    before = states(made.runs, out)
    with pytest.raises(UserError, match=f"start.encoder.file: {file}: weights of another architecture:"):
        run_here(made, before, out, 1, dry_run=dry_run)
    assert not out.exists()


def test_neither_the_working_directory_nor_a_launcher_disturbs_it(sweep_file, tmp_path, state, monkeypatch):
    (tmp_path / "fgssl.py").write_text("raise RuntimeError('imported in place of the package')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = {}

    def spied(*arguments, run=subprocess.run, **keywords):
        given.update(keywords["env"])
        return run(*arguments, **keywords)

    monkeypatch.setattr(subprocess, "run", spied)
    torch.save(state, tmp_path / "weights.pth")
    assert start_weight_problems(_plan(sweep_file, "file: weights.pth").runs, tmp_path / "out") == []
    assert "PATH" in given
    assert "WORLD_SIZE" not in given


def test_nothing_is_tried_for_trained_runs_or_missing_files(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **keywords: pytest.fail("a process was started"))
    file = tmp_path / "weights.pth"
    made = _plan(sweep_file, f"file: {file}", f"file: {file}")
    assert start_weight_problems(made.runs, tmp_path / "out") == []
    file.write_bytes(b"no weights")
    trained = Trained(steps=1, wall_s=0.0, metrics={}, environments=(), data_version="v1", start={})
    for run in made.runs:
        with RunFolder.in_output(tmp_path / "out", run.run).lease(run.config) as lease:
            lease.write_record(TRAINED, trained)
    assert start_weight_problems(made.runs, tmp_path / "out") == []


def test_a_program_that_fails_is_no_pass(sweep_file, tmp_path, monkeypatch):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = _plan(sweep_file, f"file: {file}")
    assert start_weight_problems(made.runs, tmp_path / "out") == [
        "start.encoder.file: python -m fgssl.run.start_weights, which tries the weights, failed: see its error above"
    ]
