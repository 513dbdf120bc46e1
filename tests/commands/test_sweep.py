"""`fgssl sweep` from the command line, with faked runs."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fgssl.__main__ import invoke, main
from fgssl.data.location import toy_manifest
from fgssl.errors import UserError
from fgssl.settings.data import ToySettings
from fgssl.settings.fingerprints import run_name
from fgssl.store.files import record_json
from fgssl.store.plan import read_plan
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from hpc.sweeps.snapshot import freeze, packages
from hpc.sweeps.submission import submission_folder

SWEEP = """
name: tiny
title: Tiny
source: Fig. 0
baseline: base
seeds: [0, 1]
preset: small
settings:
  data: {dataset: birds, folder: SHARDS}
  views: {image_size: 32}
  method: {name: mocov2, queue_size: 128}
  evaluation: {linear: {epochs: 1}}
stages:
  pretrain: {training: {epochs: 3}}
arms:
  base: {settings: {start: {encoder: {stage: pretrain}}}}
  long: {settings: {start: {encoder: {stage: pretrain}}}, grid: {training.epochs: [5]}}
presets:
  small: {measured_minutes: 6}
"""
MANIFEST = dataclasses.replace(toy_manifest(ToySettings()), dataset="birds")
NO_ANSWER = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN)
NO_HEAVY_IMPORTS = """
import sys
from fgssl.__main__ import main
code = main(["sweep", *sys.argv[1:]])
assert not {"torch", "timm", "accelerate", "h5py"} & set(sys.modules), "a finished sweep must not import these"
sys.exit(code)
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch) -> Path:
    """Return a sweep file in its own working directory, with a packed dataset whose images are never read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text(MANIFEST.to_json())
    for split in ("train", "test"):
        (tmp_path / "shards" / f"{split}-00000.h5").touch()
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP.replace("SHARDS", str(tmp_path / "shards")))
    return file


@pytest.fixture
def faked(tmp_path, monkeypatch) -> Path:
    """Return a folder with both packages and a faked `fgssl/run/execution.py`, which is used as the frozen code."""
    sources = tmp_path / "sources"
    for package in packages():
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    fake = (Path(__file__).parents[1] / "hpc" / "fake_run.py").read_text()
    fake = fake.replace('data_version="v1"', f'data_version="{MANIFEST.version}"')
    (sources / "fgssl" / "run" / "execution.py").write_text(fake)
    monkeypatch.setattr("hpc.local.sweep.packages", lambda: [sources / "fgssl", sources / "hpc"])
    return sources


def _out(sweep: Path) -> Path:
    return sweep.parent / "outputs" / "tiny-small"


def test_a_dry_run_prints_the_plan_and_writes_nothing(sweep, capsys):
    before = sorted(sweep.parent.rglob("*"))
    assert invoke(["sweep", str(sweep), "--dry-run", "--jobs", "3"]) == 0
    assert sorted(sweep.parent.rglob("*")) == before
    assert capsys.readouterr().out.splitlines() == [
        "tiny: Tiny (Fig. 0)",
        "preset small, seeds 0, 1, into outputs/tiny-small, 3 at a time",
        "  pretrain       2 runs: 2 pending, shared",
        "  base           2 runs: 2 waiting",
        "  long epochs=5  2 runs: 2 waiting",
        "6 runs, 0 done, 6 to do, about 6 minutes",
    ]


def test_a_dry_run_says_how_many_seeds_half_a_point_needs(sweep, capsys):
    before = sorted(sweep.parent.rglob("*"))
    assert invoke(["sweep", str(sweep), "primary=linear_100", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("34 seeds would show a difference of 0.5 points of lin")
    assert sorted(sweep.parent.rglob("*")) == before
    assert invoke(["sweep", str(sweep), "primary=linear_100", "--dry-run", "--cluster", "generic"]) == 0
    assert "\n34 seeds would show a difference of 0.5 points " in capsys.readouterr().out


def test_a_dry_run_tells_what_is_missing(sweep, monkeypatch, capsys):
    monkeypatch.setattr("hpc.local.sweep.gpus", list)
    overrides = ["resources.device=cuda", "arms.base.settings.start.encoder={stage: null, file: no.pth}"]
    before = sorted(sweep.parent.rglob("*"))
    assert main(["sweep", str(sweep), "--dry-run", "seeds=[0]", *overrides]) == 2
    assert sorted(sweep.parent.rglob("*")) == before
    captured = capsys.readouterr()
    assert "  base           1 run: 1 pending" in captured.out
    assert "no.pth" not in captured.out
    assert [line.rpartition(": ")[0] for line in captured.err.splitlines()] == [
        "error: command line: resources.device: cuda",
        "start.encoder.file: no.pth: no such file",
    ]


@pytest.mark.parametrize("options", [["--dry-run"], [], ["--dry-run", "--cluster", "generic"]])
def test_no_caution_stands_before_an_error(sweep, capsys, options):
    overrides = ["seeds=[0]", "method.queue_size=8192", "stages.pretrain.method={name: simsiam}"]
    missing = "arms.base.settings.start.encoder={stage: null, file: no.pth}"
    assert main(["sweep", str(sweep), *overrides, missing, *options]) == 2
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--dry-run"], []])
@pytest.mark.usefixtures("faked")
def test_cautions_stand_with_the_plan_once(sweep, capsys, options):
    assert invoke(["sweep", str(sweep), "seeds=[0]", "method.queue_size=8192", *options]) == 0
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if line.startswith("WARNING")] == [
        "WARNING: queue_size 8192 exceeds the 960 training images of dataset 'birds': the queue holds about 8.5 "
        "stale keys of every image, its own among its negatives: take a multiple of training.global_batch_size, 960 at "
        "most"
    ]
    assert invoke(["sweep", str(sweep), "--dry-run", "seeds=[0]", "--out", "other"]) == 0
    command = f"fgssl sweep {sweep} 'seeds=[0]' --out=other"
    assert capsys.readouterr().err == f"next: {command}  # run it\n"


def test_a_dry_run_shows_interrupted_runs(sweep, capsys):
    made = plan(expand(sweep))
    first, second = (run.config for run in made.runs[:2])
    for config in (first, second):
        (_out(sweep) / "runs" / run_name(config) / "checkpoints" / "step-00000005").mkdir(parents=True)
    with RunFolder(_out(sweep) / "runs" / run_name(second)).lease(second):
        assert invoke(["sweep", str(sweep), "--dry-run"]) == 0
    assert "  pretrain       2 runs: 1 interrupted, 1 running, shared" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("faked")
def test_overrides_that_make_another_table_do_not_replace_the_one_that_is_there(sweep):
    assert invoke(["sweep", str(sweep), "--jobs", "2", "seeds=[0]"]) == 0
    files = {file: (_out(sweep) / file).read_text() for file in ("plan.json", "table.csv", "executed.log")}
    other = [str(sweep), "--jobs", "2", "seeds=[0]", "arms.base.settings.training.epochs=7"]
    for options in ([], ["--dry-run"]):
        with pytest.raises(UserError) as caught:
            invoke(["sweep", *other, *options])
        assert "base, seed 0: training.epochs 100 there, 7 now" in str(caught.value)
        assert "give --out DIR" in str(caught.value)
    assert {file: (_out(sweep) / file).read_text() for file in files} == files
    assert invoke(["sweep", *other, "--out", "other"]) == 0

    (_out(sweep) / "plan.json").unlink()  # as the message says: the runs that are there are used
    assert invoke(["sweep", *other]) == 0
    assert len((_out(sweep) / "executed.log").read_text().splitlines()) == 4


@pytest.mark.usefixtures("faked")
def test_runs_everything_and_prints_the_table(sweep, capsys):
    assert invoke(["sweep", str(sweep), "--jobs", "2"]) == 0
    out = _out(sweep)
    printed, error = capsys.readouterr()
    assert (out / "table.md").read_text() in printed
    assert "next:" not in printed
    read = """import fgssl; table = fgssl.read_table("outputs/tiny-small")"""
    assert error.splitlines()[-1] == f"next: python -ic '{read}'  # go on in Python"
    assert "long epochs=5" in (out / "rows.csv").read_text()
    assert (out / "plan.json").exists()

    assert invoke(["sweep", str(sweep), "--dry-run"]) == 0
    assert "6 runs, 6 done, 0 to do\n" in capsys.readouterr().out
    assert (
        invoke(["sweep", str(sweep), "--dry-run", "seeds=[0, 1, 2, 3]", "--jobs", "1"]) == 0
    )  # 6 runs of 1.5 s, stages 1 s
    assert "12 runs, 6 done, 6 to do, about 0 minutes" in capsys.readouterr().out


def test_a_finished_sweep_ends_at_once_without_torch(sweep, faked):
    environment = os.environ | {"PYTHONPATH": str(faked)}
    command = [sys.executable, "-c", NO_HEAVY_IMPORTS, str(sweep), "--jobs", "2"]
    subprocess.run(command, env=environment, check=True)
    attempts = (_out(sweep) / "executed.log").read_text()
    rows, jobs = (_out(sweep) / "rows.csv").read_text(), sorted((_out(sweep) / "jobs").iterdir())
    subprocess.run(command, env=environment, check=True)
    assert (_out(sweep) / "executed.log").read_text() == attempts
    assert (_out(sweep) / "rows.csv").read_text() == rows
    assert sorted((_out(sweep) / "jobs").iterdir()) == jobs


@pytest.mark.usefixtures("faked")
def test_a_failure_gives_1_its_traceback_and_the_table_of_the_others(sweep, capsys):
    failing = plan(expand(sweep)).of_cell["long epochs=5", 1].config
    _out(sweep).mkdir(parents=True)
    (_out(sweep) / "behavior.json").write_text(f'{{"{run_name(failing)}": "fail"}}')
    assert invoke(["sweep", str(sweep), "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert "FAILED long epochs=5, seed 1\nTraceback" in printed.err
    assert "RuntimeError: this run fails" in printed.err
    assert printed.err.splitlines()[-2:] == [
        "1 run failed; run the same command to try them again",
        "next: fgssl status outputs/tiny-small  # show which runs failed and why",
    ]
    assert "base" in (_out(sweep) / "table.csv").read_text()
    (_out(sweep) / "behavior.json").unlink()
    assert invoke(["sweep", str(sweep), "--jobs", "2"]) == 0
    assert RunFolder(_out(sweep) / "runs" / run_name(failing)).done(failing)


def _behave(sweep: Path, **behaviors: str) -> None:
    """Set the behavior of the runs of cells and stages by their label."""
    names = {run.label: run.run for run in plan(expand(sweep)).runs}
    _out(sweep).mkdir(parents=True, exist_ok=True)
    (_out(sweep) / "behavior.json").write_text(json.dumps({names[label]: how for label, how in behaviors.items()}))


@pytest.mark.usefixtures("faked")
def test_a_reason_and_a_warning_that_runs_share_stand_once(sweep, capsys):
    lacking = {"base, seed 0": "lack", "base, seed 1": "lack", "long epochs=5, seed 0": "lack"}
    _behave(sweep, **lacking, **{"pretrain, seed 0": "warn", "pretrain, seed 1": "warn"})
    assert invoke(["sweep", str(sweep), "--jobs", "2"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[:4] == [
        "WARNING: data.stage: full",
        "",
        "FAILED 3 runs: base, seed 0; long epochs=5, seed 0; base, seed 1",
        "shards/birds: no labels",
    ]
    assert "Traceback" not in error


@pytest.mark.usefixtures("faked")
def test_a_warning_that_stood_with_the_plan_is_not_repeated(sweep, monkeypatch, capsys):
    _behave(sweep, **{"pretrain, seed 0": "warn"})
    monkeypatch.setattr("hpc.local.sweep.warn_of_inputs", lambda plan, out: ["data.stage: full"])
    assert invoke(["sweep", str(sweep), "seeds=[0]", "arms.long=null"]) == 0
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.usefixtures("faked")
def test_a_sweep_that_has_just_started_keeps_its_plan(sweep, monkeypatch):
    def freeze_meanwhile(*arguments):
        with pytest.raises(UserError, match="wait until the sweep that is at work there has ended"):
            invoke(["sweep", str(sweep), "views.image_size=16"])
        return freeze(*arguments)

    monkeypatch.setattr("hpc.local.sweep.freeze", freeze_meanwhile)
    assert invoke(["sweep", str(sweep), "seeds=[0]", "arms.long=null"]) == 0
    assert read_plan(_out(sweep)).cells[0].runs[0].config.views.image_size == 32


def test_of_two_sweeps_that_start_at_once_one_is_refused(sweep, monkeypatch):
    with contextlib.ExitStack() as living:

        def start_another(*_):
            living.enter_context(submission_folder(_out(sweep)))
            other = plan(expand(sweep, None, ["views.image_size=16"]))
            (_out(sweep) / "plan.json").write_text(record_json(other.record()))
            return []

        monkeypatch.setattr("hpc.local.sweep.warn_of_inputs", start_another)
        with pytest.raises(UserError, match="wait until the sweep that is at work there has ended"):
            invoke(["sweep", str(sweep)])
    assert read_plan(_out(sweep)).cells[0].runs[0].config.views.image_size == 16


@pytest.mark.usefixtures("faked")
def test_logs_of_runs_on_this_machine(sweep, capsys):
    _behave(sweep, **{"base, seed 0": "lack", "pretrain, seed 1": "warn"})
    invoke(["sweep", str(sweep), "--jobs", "1"])
    names = {run.label: run.run for run in plan(expand(sweep)).runs}
    capsys.readouterr()
    assert invoke(["logs", "outputs/tiny-small"]) == 0
    printed, error = capsys.readouterr()
    lines = printed.splitlines()
    assert lines[:2] == [
        f"==== base, seed 0 (FAILED): outputs/tiny-small/runs/{names['base, seed 0']}",
        "shards/birds: no labels",
    ]
    assert re.fullmatch(r"---- the end of its part of outputs/tiny-small/jobs/\S+/job-\d+/output.log", lines[2])
    assert lines[3:] == ["error: shards/birds: no labels"]
    again = "fgssl sweep SWEEP.yaml --preset small --out outputs/tiny-small"
    assert error == f"next: {again}  # try them again, once the cause is removed\n"

    assert invoke(["logs", "outputs/tiny-small", "pretrain", "--lines", "1"]) == 0
    printed, error = capsys.readouterr()
    assert "==== pretrain, seed 0 (DONE)" in printed
    assert printed.splitlines()[-1] == "WARNING: data.stage: full"
    assert f"a line of {names['pretrain, seed 1']}" not in printed
    assert error == ""
    with pytest.raises(UserError, match="no run of sweep tiny has the whole words 'pre' in its label"):
        invoke(["logs", "outputs/tiny-small", "pre"])

    (_out(sweep) / "behavior.json").unlink()
    assert invoke(["sweep", str(sweep)]) == 0
    capsys.readouterr()
    assert invoke(["logs", "outputs/tiny-small"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "no run has failed: name a run to print its log"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "0"], "--jobs 0: must be at least 1"),
        (["--jobs", "-2"], "--jobs -2: must be"),
        (["--preset", "smal"], "did you mean 'small'?"),
        (["settings.data.folder=elsewhere"], "command line: settings.data.folder: elsewhere does not exist: .* holds "),
        (["data.dataset=fish"], "holds dataset 'birds', but data.dataset is 'fish'"),
        (["arms.base.settings.start.encoder={stage: null, file: no.pth}"], "no.pth: no such file"),
        (["arms.base.settings.start.encoder={stage: null, run: other}"], "start.encoder.run: other: .*is missing"),
        (["resources.device=cuda"], "resources.device: cuda: this machine has no GPU"),
    ],
)
def test_what_cannot_start_says_why_and_writes_nothing(sweep, monkeypatch, arguments, words):
    monkeypatch.setattr("hpc.local.sweep.gpus", list)
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        invoke(["sweep", str(sweep), *arguments])
    assert not (sweep.parent / "outputs").exists()


def test_a_mistyped_folder_is_answered_with_the_whole_path(sweep):
    (sweep.parent / "shards" / "birds").mkdir()
    with pytest.raises(UserError, match=r"data.folder: shard/birds does not exist: did you mean shards/birds\?"):
        invoke(["sweep", str(sweep), "data.folder=shard/birds"])
    with pytest.raises(UserError, match=r"data.folder: shard/fish does not exist: did you mean shards\?"):
        invoke(["sweep", str(sweep), "data.folder=shard/fish"])


def test_a_level_given_by_name_is_answered_with_the_levels_of_the_shards(sweep):
    with pytest.raises(UserError, match=r"evaluation.label_level: 'genus' is .* 1 \(genus\) \(.*manifest.json\)"):
        invoke(["sweep", str(sweep), "evaluation.label_level=genus"])


def test_nowhere_to_write(sweep, capsys):
    (sweep.parent / "file").write_text("")
    assert main(["sweep", str(sweep), "--out", "file/out"]) == 2
    assert re.match(r"error: .*file/out.*: Not a directory: a part of this path is a file", capsys.readouterr().err)


def test_no_write_permission(sweep, capsys):
    locked = sweep.parent / "locked"
    locked.mkdir(mode=0o500)
    out = Path("/sys/out") if os.access(locked, os.W_OK) else locked / "out"  # root may write nearly everywhere
    assert main(["sweep", str(sweep), "--out", str(out)]) == 2
    assert re.match(
        rf"error: {out}.*: (Permission denied|Operation not permitted): ask its owner", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EDQUOT, "make room, or give another folder"),
        (errno.ENOTDIR, "a part of this path is a file"),
        (errno.ELOOP, "a link that leads to itself"),
        *((number, "the file system does not answer: try again, or on another node") for number in NO_ANSWER),
    ],
)
def test_an_error_of_files_has_its_advice(sweep, monkeypatch, capsys, number, advice):
    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number), "out/x")

    monkeypatch.setattr("hpc.local.sweep.check_inputs", broken)
    assert main(["sweep", str(sweep)]) == 2
    assert f"error: out/x: {os.strerror(number)}: {advice}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT])
def test_an_error_that_users_cannot_correct_keeps_its_traceback(sweep, monkeypatch, number):
    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hpc.local.sweep.check_inputs", broken)
    with pytest.raises(OSError, match=os.strerror(number)):
        invoke(["sweep", str(sweep)])


@pytest.mark.parametrize("options", [["--dry-run"], []])
@pytest.mark.usefixtures("faked")
def test_a_reader_that_leaves_ends_the_command_quietly(sweep, faked, options):
    """As in `fgssl sweep ... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "fgssl", "sweep", str(sweep), *options],
            env=os.environ | {"PYTHONPATH": str(faked)},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_full_disk(sweep, monkeypatch):
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"plan\.json: cannot be written: No space left on device"):
        invoke(["sweep", str(sweep)])
    assert [file.name for file in _out(sweep).iterdir()] == ["jobs"]
