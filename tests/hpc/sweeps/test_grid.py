"""Sweep files: merging, expansion, and every error with its place."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.layers import Layer, nested, to_yaml
from fgssl.settings.methods import MoCoV2Settings, SynthesizedSettings
from hpc.sweeps.grid import expand, needed_stages

BASE = {"method": {"name": "synthesized", "base": {"queue_size": 128}}, "views": {"image_size": 32}}
SIGMA = "method.noise.sigma_grad_cam"


def _write(folder: Path, **content: object) -> Path:
    file = folder / "sweep.yaml"
    whole = {"name": "test", "settings": BASE, "arms": {"one": {}}} | content
    file.write_text(to_yaml(whole))
    return file


def _errors(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    with pytest.raises(SettingsError) as caught:
        expand(file, preset, overrides)
    return [(Path(problem.source).name, problem.key, problem.message) for problem in caught.value.problems]


def _error(file: Path, preset: str | None = None, overrides: Sequence[str] = ()) -> tuple[str, str, str]:
    [error] = _errors(file, preset, overrides)
    return error


# ------------------------------------------------------------------------------------------- merging


def test_order_is_preset_file_then_sweep_then_preset_block_then_command_line(tmp_path):
    (tmp_path / "low.yaml").write_text(
        to_yaml({"settings": {"training": {"epochs": 1, "warm_up_epochs": 0.5}, "data": {"dataset": "low"}}})
    )
    file = _write(
        tmp_path,
        settings=BASE | {"training": {"epochs": 2, "schedule": "constant"}},
        preset="a",
        presets={"a": {"extends": "low.yaml", "settings": {"training": {"epochs": 3}}}, "b": None},
    )
    [cell] = expand(file).cells
    assert (cell.config.training.epochs, cell.config.training.schedule) == (3, "constant")
    assert (cell.config.training.warm_up_epochs, cell.config.data.dataset) == (0.5, "low")
    assert expand(file, None, ["training.epochs=4"]).cells[0].config.training.epochs == 4
    assert expand(file, "b").cells[0].config.training.epochs == 2


def test_arm_settings_and_grid_lie_over_the_shared_settings(tmp_path):
    arms = {
        "base": {"settings": {"method": {"noise": {"variant": "none"}}}},
        "noisy": {"settings": {"method": {"pair_weight": 0.25}}, "grid": {SIGMA: [0.1, 1e-3], "encoder.name": ["x"]}},
    }
    cells = expand(_write(tmp_path, arms=arms, baseline="base")).cells
    assert [cell.name for cell in cells] == [
        "base",
        "noisy sigma_grad_cam=0.1 name=x",
        "noisy sigma_grad_cam=0.001 name=x",
    ]
    assert isinstance(cells[0].config.method, MoCoV2Settings)  # canonical: no noise is the base method
    method = cells[2].config.method
    assert isinstance(method, SynthesizedSettings)
    assert isinstance(method.base, MoCoV2Settings)
    assert (method.pair_weight, method.noise.sigma_grad_cam, method.base.queue_size) == (0.25, 0.001, 128)
    assert cells[2].grid == {SIGMA: 0.001, "encoder.name": "x"}


def test_another_encoder_in_a_grid_keeps_the_settings_around_its_name(tmp_path):
    encoder = {"name": "resnet50", "stem": "small_image", "batch_norm_group_size": 16}
    arms = {"a": {"grid": {"encoder.name": ["resnet18", "resnet34"]}}}
    cells = expand(_write(tmp_path, settings=BASE | {"encoder": encoder}, arms=arms)).cells
    assert [cell.config.encoder.name for cell in cells] == ["resnet18", "resnet34"]
    assert {(cell.config.encoder.stem, cell.config.encoder.batch_norm_group_size) for cell in cells} == {
        ("small_image", 16)
    }


@pytest.mark.parametrize("where", [("settings",), ("stages", "s"), ("arms", "a", "settings")])
def test_another_kind_keeps_nothing_of_the_one_below_wherever_it_is_chosen(tmp_path, where):
    """A preset's Adam lies over the sweep's SGD, whose momentum Adam does not know; in every place a config can lie."""
    sgd = {"training": {"optimizer": {"name": "sgd", "momentum": 0.5}}, "encoder": {"name": "a", "stem": "small_image"}}
    adam = {"training": {"optimizer": {"name": "adam", "learning_rate": 1e-3}}, "encoder": {"name": "b"}}
    below, above = nested(".".join(where), sgd), nested(".".join(where), adam)
    chosen = {"encoder": {"name": "b", "stem": "small_image"}}  # at the other end of the chain, which must fit
    stages = {"s": chosen if where[0] == "arms" else {}}
    arms = {"a": {"settings": {"start": {"encoder": {"stage": "s"}}} | (chosen if where[0] == "stages" else {})}}
    content = Layer({"stages": stages, "arms": arms, "settings": BASE}).merge(below, ())
    grid = expand(_write(tmp_path, **content, preset="p", presets={"p": above}))
    config = grid.stages["s"] if where[0] == "stages" else grid.cells[0].config
    assert (config.training.optimizer.name, config.training.optimizer.learning_rate) == ("adam", 0.001)
    assert (config.encoder.name, config.encoder.stem) == ("b", "small_image")


def test_null_removes_an_arm(tmp_path):
    file = _write(tmp_path, arms={"one": {}, "two": {"settings": {"method": {"pair_weight": 0.1}}}})
    assert [cell.arm for cell in expand(file, None, ["arms.one=null"]).cells] == ["two"]
    keys = {key for _, key, _ in _errors(_write(tmp_path, baseline="one"), None, ["arms.one=null"])}
    assert keys == {"arms", "baseline"}


def test_cell_names_show_every_kind_of_value(tmp_path):
    grid = {"method.noise.threshold": [0.02, float("inf"), {"quantile": 0.5}], "views.horizontal_flip": [True]}
    cells = [cell.name for cell in expand(_write(tmp_path, arms={"a": {"grid": grid}})).cells]
    assert cells == [f"a threshold={value} horizontal_flip=true" for value in ("0.02", "inf", "quantile:0.5")]


# ------------------------------------------------------------------------------------------ stages


def test_stages_are_named_by_configs_and_not_measured(tmp_path):
    first, measured = ({"start": {"encoder": {"stage": stage}}} for stage in ("first", "measured"))
    stages = {"first": {"training": {"epochs": 3}}, "measured": {"evaluation": {"label_level": 1}}}
    grid = expand(_write(tmp_path, stages=stages, arms={"a": {"settings": first}, "b": {"settings": measured}}))
    assert [needed_stages(cell.config) for cell in grid.cells] == [{"encoder": "first"}, {"encoder": "measured"}]
    assert grid.stages["first"].evaluation is None
    assert grid.stages["measured"].evaluation is not None


def test_a_start_that_canonical_drops_needs_no_stage(tmp_path):
    start = {"start": {"decoder": {"stage": "decoder"}}}
    arms = {"base": {"settings": {"method": {"noise": {"variant": "none"}}} | start}}
    assert needed_stages(expand(_write(tmp_path, arms=arms, stages={"decoder": {}})).cells[0].config) == {}


def test_unknown_stage_and_both_stage_and_file(tmp_path):
    start = {"encoder": {"stage": "pretrian"}, "decoder": {"stage": "pretrain", "file": "x.pth"}}
    errors = _errors(_write(tmp_path, settings=BASE | {"start": start}, stages={"pretrain": {"start": None}}))
    keys = {key: message for _, key, message in errors}
    assert "did you mean 'pretrain'?" in keys["settings.start.encoder.stage"]
    assert "`run` and (in a sweep) `stage`, not file, stage; null takes one back" in keys["settings.start.decoder"]


@pytest.mark.parametrize("place", ["settings", "arms", "grid", "another stage"])
def test_a_stage_that_is_named_somewhere_is_not_mistyped(tmp_path, place):
    start = {"start": _start("pretrain")}
    stages: dict[str, object] = {"pretrain": {"start": {"encoder": None}}}
    contents: dict[str, dict[str, object]] = {
        "settings": {"settings": Layer(BASE).merge(start, ())},
        "arms": {"arms": {"a": {"settings": start}}},
        "grid": {"arms": {"a": {"grid": {"start.encoder.stage": ["pretrain"]}}}},
        "another stage": {"stages": stages | {"next": start}, "arms": {"a": {"grid": {"start": [_start("next")]}}}},
    }
    expand(_write(tmp_path, **({"stages": stages} | contents[place])))


def _start(stage: str) -> dict[str, object]:
    return {"encoder": {"stage": stage}}


@pytest.mark.parametrize(
    ("content", "overrides", "place"),
    [
        ({"stages": {"pretrian": {}}}, (), ("sweep.yaml", "stages.pretrian")),
        (
            {"presets": {"p": {"extends": "low.yaml", "stages": {"pretrian": {}}}}},
            (),
            ("sweep.yaml", "presets.p.stages.pretrian"),
        ),
        ({}, ("stages={pretrian: {}}",), ("command line", "stages.pretrian")),
        ({}, ("stages.pretrian.training.epochs=2",), ("command line", "stages.pretrian.training.epochs")),
    ],
)
def test_a_mistyped_stage(tmp_path, content, overrides, place):
    (tmp_path / "low.yaml").write_text(
        to_yaml({"settings": {"start": _start("pretrain")}, "stages": {"pretrain": {"start": {"encoder": None}}}})
    )
    presets = {"preset": "p", "presets": {"p": {"extends": "low.yaml"}}}
    source, key, message = _error(_write(tmp_path, **(presets | content)), None, overrides)
    assert (source, key) == place
    assert "unknown stage 'pretrian': did you mean 'pretrain'?" in message


def test_a_stage_that_only_another_preset_starts_from_is_mistyped(tmp_path):
    other = {"settings": {"start": _start("pretrian")}}
    file = _write(
        tmp_path, stages={"pretrian": {"start": {"encoder": None}}}, preset="p", presets={"p": {}, "other": other}
    )
    assert _error(file)[:2] == ("sweep.yaml", "stages.pretrian")
    assert expand(file, "other").stages


def test_a_stage_of_the_extended_file_or_set_to_null_may_stay_unused(tmp_path):
    (tmp_path / "low.yaml").write_text(to_yaml({"stages": {"pretrain": {"training": {"epochs": 3}}}}))
    block = {"extends": "low.yaml", "stages": {"pretrain": {"training": {"epochs": 2}}, "own": None}}
    grid = expand(_write(tmp_path, stages={"own": {}}, preset="p", presets={"p": block}))
    assert grid.stages["pretrain"].training.epochs == 2


def test_an_override_does_not_turn_a_stage_into_a_mistyped_one(tmp_path):
    file = _write(
        tmp_path, settings=BASE | {"start": _start("pretrain")}, stages={"pretrain": {"start": {"encoder": None}}}
    )
    expand(file, None, ["settings.start.encoder={stage: null, file: weights.pth}"])


def test_a_circle_of_stages_is_told_once(tmp_path):
    stages = {
        "a": {"start": {"encoder": {"stage": "b"}}},
        "b": {"start": {"encoder": {"stage": "c"}}},
        "c": {"start": {"encoder": {"stage": "a"}}},
    }
    assert _error(_write(tmp_path, stages=stages)) == (
        "sweep.yaml",
        "stages.a.start",
        "stages need each other in a circle: a needs b needs c needs a",
    )


# ------------------------------------------------------------------------------------------ errors


def test_all_errors_of_a_file_at_once_each_with_its_place(tmp_path):
    (tmp_path / "low.yaml").write_text("settings: {views: {crop_aria: 3}}\nseed: [1]\n")
    file = _write(
        tmp_path,
        titel="x",
        seeds=[0, 1, 0],
        baseline="moko",
        settings=BASE | {"training": {"epochs": "many"}},
        arms={
            "moco": {"setings": {}},
            "grid": {"grid": {"method.noise.sigma_gradcam": [0.1, 0.2], "method.pair_weight": [0.5, -1]}},
            "one": {"settings": {"encoder": {"stem": "big"}}, "reference": {"tabel": "x"}},
        },
        preset="p",
        presets={"p": {"extends": "low.yaml", "stagse": {}}},
    )
    errors = {(source, key): message for source, key, message in _errors(file)}
    assert "did you mean 'title'?" in errors["sweep.yaml", "titel"]
    assert "did you mean 'seeds'?" in errors["low.yaml", "seed"]
    assert "did you mean 'stages'?" in errors["sweep.yaml", "presets.p.stagse"]
    assert "0 is given twice" in errors["sweep.yaml", "seeds"]
    assert "unknown arm 'moko'" in errors["sweep.yaml", "baseline"]
    assert "did you mean 'settings'?" in errors["sweep.yaml", "arms.moco.setings"]
    assert "did you mean 'table'?" in errors["sweep.yaml", "arms.one.reference.tabel"]
    assert "did you mean 'sigma_grad_cam'?" in errors["sweep.yaml", "arms.grid.grid.method.noise.sigma_gradcam"]
    assert "-1 is not allowed" in errors["sweep.yaml", "arms.grid.grid.method.pair_weight"]
    assert "'many' is not allowed" in errors["sweep.yaml", "settings.training.epochs"]
    assert "did you mean 'crop_area'?" in errors["low.yaml", "settings.views.crop_aria"]


def test_the_same_error_at_many_points_is_told_once(tmp_path):
    arms = {"a": {"grid": {SIGMA: [0.1, 0.2, 0.3]}}, "b": {"settings": {"method": {"pair_weight": 1.0}}}}
    source, key, message = _error(_write(tmp_path, arms=arms, settings=BASE | {"training": {"global_batch_size": 96}}))
    assert (source, key) == ("sweep.yaml", "arms.a, arms.b")
    assert "queue_size 128 must be a multiple of training.global_batch_size 96" in message


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ({"arms": {}}, "arms", "at least one"),
        ({"arms": {"a b": {}}}, "arms.a b", "not allowed as a name"),
        ({"name": "a/b"}, "name", "names a folder"),
        ({"seeds": []}, "seeds", "empty"),
        ({"seeds": [-1]}, "seeds.0", "-1 is not allowed"),
        ({"seeds": 3}, "seeds", "3 is not allowed"),
        ({"arms": {"a": {"grid": {SIGMA: []}}}}, f"arms.a.grid.{SIGMA}", "empty"),
        ({"arms": {"a": {"grid": {SIGMA: 0.1}}}}, f"arms.a.grid.{SIGMA}", "give a list"),
        ({"arms": {"a": {"grid": {SIGMA: [0.001, 1e-3]}}}}, f"arms.a.grid.{SIGMA}", "0.001 is given twice"),
        ({"arms": {"a": {}, "b": {}}}, "arms.b", "cell 'b' is the same config as cell 'a'"),
        ({"arms": {"a": {"settings": {"evaluation": None}}}}, "arms.a", "must be measured"),
        ({"arms": {"a": {"grid": {SIGMA: [0.1]}}}, "baseline": "a"}, "baseline", "has a grid"),
        ({"arms": {"a": {"reference": {"table": "nope"}}}}, "arms.a.reference", "unknown table 'nope'"),
        (
            {"arms": {name: {"settings": {"start": {"encoder": {"file": f"{name}.pth"}}}} for name in "ab"}},
            "arms.b",
            "only in the path of a start file",
        ),
        ({"settings": BASE | {"seed": 1}}, "settings.seed", "listed in `seeds`"),
        ({"arms": {"a": {"grid": {"data.dataset": ["x", "y"]}}}}, "arms", "one dataset, not x, y"),
    ],
)
def test_bad_content(tmp_path, content, key, words):
    found = [(found_key, message) for _, found_key, message in _errors(_write(tmp_path, **content))]
    assert any(found_key == key and words in message for found_key, message in found), found


def test_a_list_in_place_of_a_name(tmp_path):
    stages = {"pretrain": {"start": {"encoder": None}}}
    start = {"start": {"encoder": {"stage": ["pretrain"]}}}
    _, key, message = _error(_write(tmp_path, stages=stages, arms={"a": {"settings": start}}))
    assert (key, message[:27]) == ("arms.a.settings.start.encoder.stage", "['pretrain'] is not allowed")
    _, key, message = _error(_write(tmp_path, preset=["a"], presets={"a": {}}))
    assert (key, message[:22]) == ("preset", "unknown preset \"['a']\"")


def test_an_unknown_preset_is_the_only_error(tmp_path):
    """What the preset would have brought is missed in many places: those are no errors of their own."""
    (tmp_path / "low.yaml").write_text(to_yaml({"arms": {"base": {}}}))
    file = _write(tmp_path, arms={}, baseline="base", preset="demo", presets={"demo": {"extends": "low.yaml"}})
    source, key, message = _error(file, "dmo")
    assert (source, key) == ("command line", "--preset")
    assert "did you mean 'demo'?" in message
    assert _error(_write(tmp_path, baseline="x", preset="demo"))[:2] == ("sweep.yaml", "preset")


def test_a_config_of_one_run_is_told_apart(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("seed: 3\nmethod: {name: mocov2}\n")
    assert _error(file) == (
        "config.yaml",
        "",
        f"is the config of one run, not a sweep: start it with `fgssl train {file}`",
    )


def test_missing_files(tmp_path):
    assert _error(tmp_path / "no.yaml") == ("no.yaml", "", f"no such file: {tmp_path} holds nothing")
    file = _write(tmp_path, preset="p", presets={"p": {"extends": "no.yaml"}})
    assert _error(file) == ("no.yaml", "", f"no such file: {tmp_path} holds {file.name}")
    assert _error(tmp_path / "sweeps.yaml") == ("sweeps.yaml", "", f"no such file: did you mean {file}?")


# ------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("preset=paper", "--preset"),
        ("seed=3", "seeds=[3]"),
        ("trainin.epochs=2", "did you mean 'training'?"),
        ("arms.two.settings.training.epochs=2", "unknown arm 'two'"),
        ("training.epochs", "key.path=value"),
    ],
)
def test_bad_overrides(tmp_path, override, words):
    source, _, message = _error(_write(tmp_path), None, [override])
    assert source == "command line"
    assert words in message


def test_settings_that_another_name_drops_are_told(tmp_path):
    file = _write(tmp_path)
    assert expand(file, None, ["method.pair_weight=0.1"]).cautions == []
    grid = expand(file, None, ["method.name=simclr"])
    assert grid.cells[0].config.method.name == "simclr"
    assert grid.cautions == [
        "command line: another settings.method.name drops these settings: settings.method.base.queue_size"
    ]


def test_a_missing_key_is_told_where_it_is_missing(tmp_path):
    settings = BASE | {"evaluation": {"outliers": {"centroids": "test"}}}
    assert _error(_write(tmp_path, settings=settings)) == (
        "sweep.yaml",
        "settings.evaluation.outliers",
        "`levels` is missing: it has no default; give evaluation.outliers.levels, e.g. {species: 0, genus: 1}",
    )


def test_an_unknown_key_in_an_override_is_shown_as_typed(tmp_path):
    source, key, message = _error(_write(tmp_path), None, ["training.epoch=2"])
    assert (source, key) == ("command line", "training.epoch")
    assert "did you mean 'epochs'?" in message


@pytest.mark.parametrize(
    ("content", "override", "setter"),
    [
        ({"arms": {"a": {"grid": {SIGMA: [0.1]}}}}, f"{SIGMA}=1", f"arms.a.grid.{SIGMA}"),
        ({"arms": {"a": {"grid": {SIGMA: [0.1]}}}}, "method.noise={sigma_grad_cam: 1}", f"arms.a.grid.{SIGMA}"),
        (
            {"arms": {"a": {"settings": {"training": {"epochs": 5}}}}},
            "training.epochs=2",
            "arms.a.settings.training.epochs",
        ),
        (
            {"settings": BASE | {"start": {"encoder": {"stage": "s"}}}}
            | {"stages": {"s": {"start": {"encoder": None}, "training": {"epochs": 5}}}},
            "training.epochs=2",
            "stages.s.training.epochs",
        ),
    ],
)
def test_an_override_that_an_arm_or_stage_would_undo(tmp_path, content, override, setter):
    file = _write(tmp_path, **content)
    _, _, message = _error(file, None, [override])
    assert f"{setter} set this key" in message
    expand(file, None, [f"settings.{override}"])  # said so expressly, it holds for all the others


def test_overrides_of_the_sweep_itself(tmp_path):
    arms = {"a": {"settings": {"start": _start("s")}, "grid": {SIGMA: [0.1, 0.2]}}}
    file = _write(tmp_path, arms=arms, stages={"s": {}})
    grid = expand(file, None, ["seeds=[7]", f"arms.a.grid.{SIGMA}=[0.3]", "stages.s.training.epochs=9"])
    assert grid.settings.seeds == (7,)
    assert [cell.grid[SIGMA] for cell in grid.cells] == [0.3]
    assert grid.stages["s"].training.epochs == 9


# ------------------------------------------------------------------------------------------ lines


def test_each_error_names_the_line_of_the_layer_that_wrote_the_key(tmp_path):
    (tmp_path / "low.yaml").write_text("settings:\n  views: {image_size: 32}\n  encoder: {stem: big}\n")
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "settings:\n"
        "  method: {name: synthesized, base: {queue_size: 128}, pair_weight: -1}\n"
        "  views:\n"
        "    hue: much\n"
        "arms:\n"
        "  one: {settings: {method: {bank_size: 0}}}\n"
        "  two:\n"
        "    grid:\n"
        f"      {SIGMA}: [0.1, -2]\n"
        "preset: p\n"
        "presets:\n"
        "  p:\n"
        "    extends: low.yaml\n"
        "    settings: {views: {blur_probability: 2}}\n"
        "    arms:\n"
        "      three: {settings: {start: {encoder: {stage: none}}}}\n"
        "name: test\n"
    )
    with pytest.raises(SettingsError) as caught:
        expand(
            file, None, ["training.epochs=0", "arms.three.grid.method.reconstruction_weight=[-3]", "data={folder: 1}"]
        )
    lines = [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]
    places = {": ".join(line.split(": ")[:2]) for line in lines}
    assert places == {
        "low.yaml:3: settings.encoder.stem",
        "sweep.yaml:2: settings.method.pair_weight",
        "sweep.yaml:4: settings.views.hue",
        "sweep.yaml:6: arms.one.settings.method.bank_size",
        f"sweep.yaml:9: arms.two.grid.{SIGMA}",
        "sweep.yaml:14: presets.p.settings.views.blur_probability",
        "sweep.yaml:16: presets.p.arms.three.settings.start.encoder.stage",
        "command line: training.epochs",
        "command line: data.folder",
        "command line: arms.three.grid.method.reconstruction_weight",
    }


def test_a_fault_of_whole_configs_names_the_line_of_the_first(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "settings: {training: {global_batch_size: 100}}\narms:\n  a: {}\n  b: {settings: {seed: 3}}\nname: test\n"
    )
    with pytest.raises(SettingsError) as caught:
        expand(file)
    assert {
        str(problem).partition(" must be")[0].removeprefix(f"{tmp_path}/") for problem in caught.value.problems
    } == {
        "sweep.yaml:4: arms.b.settings.seed: a sweep's seeds are listed in `seeds`",
        "sweep.yaml:3: arms.a, arms.b: training.global_batch_size 100",
        "sweep.yaml:3: arms.a, arms.b: queue_size 65536",
    }


def test_a_config_that_starts_from_a_stage_keeps_the_places_of_its_keys(tmp_path):
    settings = BASE | {"start": _start("s")}
    arms = {"a": {"settings": {"training": {"epochs": 0}}}}
    file = _write(tmp_path, settings=settings, stages={"s": {"start": {"encoder": None}}}, arms=arms)
    assert _error(file)[:2] == ("sweep.yaml", "arms.a.settings.training.epochs")


def test_keys_given_twice_are_refused_with_both_lines(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("arms:\n  a: {}\n  b: {}\n  a: {settings: {}}\nseeds: [1]\nseeds: [2]\n")
    assert _errors(file) == [
        ("sweep.yaml", "arms.a", "this key is given twice (first in line 2): keep one of them"),
        ("sweep.yaml", "seeds", "this key is given twice (first in line 5): keep one of them"),
    ]


def test_arms_may_have_names_that_other_yaml_takes_for_truth_values(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("arms:\n  on: {}\n  off: {settings: {training: {epochs: 1}}}\nseeds: [007, 010]\nname: test\n")
    grid = expand(file)
    assert ([cell.arm for cell in grid.cells], grid.settings.seeds) == (["on", "off"], (7, 10))
