"""Command lines of `fgssl train` and `fgssl evaluate`; wrong ones fail before anything runs."""

import shutil
from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.data.location import toy_manifest
from fgssl.errors import SettingsError, UserError
from fgssl.run.execution import execute
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.settings.data import ToySettings
from fgssl.settings.layers import to_yaml
from fgssl.store.run_folder import RunFolder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: mocov2, queue_size: 4096, momentum: 0.9}\nviews: {crap: 1}\n")
    return path


def _problems(*arguments: str) -> dict[tuple[str, str], str]:
    with pytest.raises(SettingsError) as caught:
        invoke(["train", *arguments])
    return {(Path(problem.source).name, problem.key): problem.message for problem in caught.value.problems}


def test_a_faulty_key_is_of_the_file_or_of_the_command_line(file):
    found = _problems(
        str(file), "training.epoch=2", "trainin.epochs=2", "method.queue_size=-1", "evaluation.outliers={}"
    )
    assert "did you mean 'epochs'?" in found["command line", "training.epoch"]
    assert "did you mean 'training'?" in found["command line", "trainin"]
    assert "-1 is not allowed" in found["command line", "method.queue_size"]
    assert found["command line", "evaluation.outliers"] == (
        "`levels` is missing: it has no default; give evaluation.outliers.levels, e.g. {species: 0, genus: 1}"
    )
    assert "unknown key 'crap'" in found["run.yaml", "views.crap"]
    assert len(found) == 5


def test_settings_that_another_name_drops_are_told(file, capsys):
    _problems(str(file), "method.momentum=0.5")
    assert capsys.readouterr().err == ""
    _problems(str(file), "method.name=simsiam")
    assert capsys.readouterr().err == ""  # errors alone
    file.write_text(file.read_text().replace("crap: 1", ""))
    configs.load(file, ["method.name=simsiam", "method.hidden_width=64"])
    assert capsys.readouterr().err == (
        "WARNING: command line: another method.name drops these settings: method.queue_size, method.momentum\n"
    )


def test_a_level_given_by_name_is_answered_with_the_levels_of_the_data(file, tmp_path):
    found = _problems(str(file), "evaluation.label_level=genus")
    assert found["command line", "evaluation.label_level"] == (
        "'genus' is not allowed: give the number of a label level, 0 for the finest; dataset 'toy' has 2 label levels: "
        "0 (species), 1 (genus)"
    )
    shards = tmp_path / "my shards"
    shards.mkdir()
    (shards / "manifest.json").write_text(toy_manifest(ToySettings()).to_json())
    found = _problems(str(file), f"data.folder={shards}", "evaluation.outliers={levels: {genus: genus}}")
    assert found["command line", "evaluation.outliers.levels.genus"].endswith(f"1 (genus) ({shards}/manifest.json)")


def test_a_folder_of_runs_lists_what_sets_them_apart(stage, tmp_path):
    first, second = stage
    for run in (first, second):
        shutil.copytree(run.path, tmp_path / "runs" / run.path.name, dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"an output folder: give one of its runs:") as caught:
        invoke(["evaluate", str(tmp_path)])
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len({line.partition("  (")[2] for line in lines}) == 2


def test_the_command_after_a_verification_has_all_that_was_given(file, monkeypatch, capsys):
    monkeypatch.setattr("fgssl.commands.train.verify", lambda *arguments: True)
    file.write_text("{}")
    assert invoke(["train", str(file), "seed=3", "--verify-exact", "--out", "my runs"]) == 0
    command = f"fgssl train {file} seed=3 training.invariant=exact '--out=my runs'"
    assert capsys.readouterr().err == f"next: {command}  # train\n"


def test_a_sweep_is_told_apart(file):
    file.write_text("name: x\nsettings: {method: {name: mocov2}}\narms: {a: {}}\n")
    assert _problems(str(file)) == {
        ("run.yaml", ""): f"is a sweep, not the config of one run: start it with `fgssl sweep {file}`"
    }


def test_several_folders_are_evaluated_one_at_a_time(tmp_path):
    folders = [str(tmp_path / name) for name in ("one", "two", "three")]
    for folder in folders:
        Path(folder).mkdir()
    with pytest.raises(UserError, match=f"one is taken at a time: {', '.join(folders)}$"):
        invoke(["evaluate", *folders, "evaluation.label_level=1"])


def test_cautions_are_told_before_the_training(tiny_config, tmp_path, capsys):
    config = tiny_config("training.epochs=1", "method.noise.variant=none", "method.base.queue_size=512")
    settings = fingerprints.to_mapping(config)
    (tmp_path / "run.yaml").write_text(to_yaml(settings))
    command = ["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]
    assert invoke(command) == 0
    error = capsys.readouterr().err
    assert error.startswith("WARNING: queue_size 512 exceeds the 192 training images of dataset 'toy': the queue holds")
    assert error.count("queue_size") == 1
    assert invoke(command) == 0  # trained: nothing to caution against any more
    assert "queue_size" not in capsys.readouterr().err


@pytest.fixture
def stage(tiny_config, tmp_path):
    """The run folder of a start encoder, in `there`, and that of a run which starts from it and has not been made."""
    untrained = ("method={name: start_encoder}", "evaluation={linear: null}")
    first = execute(tiny_config(*untrained), tmp_path / "there")
    config = tiny_config(*untrained, f"start.encoder.run={first.path.name}", "seed=1")
    second = RunFolder.in_output(tmp_path / "there", fingerprints.run_name(config))
    second.path.mkdir()
    second.config_file.write_text(fingerprints.to_yaml(config))
    return first, second


def test_the_config_of_a_run_folder_finds_what_it_starts_from_beside_it(stage, tmp_path, capsys):
    first, second = stage
    before = sorted(second.path.iterdir())
    assert invoke(["train", str(second.config_file), "--out", str(tmp_path / "out")]) == 0
    made = RunFolder.in_output(tmp_path / "out", second.path.name)
    assert made.encoder.read_bytes() == first.encoder.read_bytes()
    assert sorted(second.path.iterdir()) == before
    captured = capsys.readouterr()
    measure_again = f"next: fgssl evaluate {made.path} evaluation.knn=true  # measure it in another way"
    assert captured.err.splitlines()[-1] == measure_again
    assert "next:" not in captured.out
    assert invoke(["evaluate", str(made.path), "evaluation.knn={neighbors: 5}"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        *("rank1", "rank5", "mAP", "knn"),
    ]
    assert invoke(["evaluate", str(made.path), "evaluation.knn=true", "evaluation.shown_columns=[knn_balanced]"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("knn_balanced ")
    assert f'fgssl.load_encoder("{made.path}")' in captured.err.splitlines()[-1]


def test_a_copy_of_it_elsewhere_finds_them_in_the_output_folder(stage, tmp_path):
    _, second = stage
    copy = tmp_path / "copied" / "config.yaml"
    copy.parent.mkdir()
    copy.write_bytes(second.config_file.read_bytes())
    here = tmp_path / "out" / "runs"
    with pytest.raises(SettingsError, match=f"{here}/start_encoder-seed0-.*: no such weights file; run its stage"):
        invoke(["train", str(copy), "--out", str(tmp_path / "out")])
    assert invoke(["train", str(copy), "--out", str(tmp_path / "there"), "--run-folder", str(tmp_path / "alone")]) == 0
    assert RunFolder(tmp_path / "alone").trained() is not None


def test_an_evaluation_shows_how_far_it_is(stage, monkeypatch, capsys):
    monkeypatch.setattr("fgssl.progress.PLAIN_LINE_EVERY_S", 0.0)
    probe = "evaluation.linear={epochs: 3, learning_rates: [0.1, 1.0]}"
    assert invoke(["evaluate", str(stage[0].path), probe, "evaluation.knn={}"]) == 0
    error = capsys.readouterr().err
    for last in (
        "encode train: 192/192 images, ",
        "encode test: 48/48 images, ",
        "linear probe: choose rates: 3/3 epochs, ",
        "linear probe: 3/3 epochs, ",
        "retrieval: 48/48 images, ",
        "kNN: 48/48 images, ",
    ):
        assert last in error
