"""Sweep files: merging, expansion, and every error with its place."""

import pytest

from fgssl.settings.layers import Layer, nested, to_yaml
from fgssl.settings.methods import MoCoV2Settings, SynthesizedSettings
from hpc.sweeps.grid import expand, needed_stages
from tests.hpc.sweeps.sweep_files import BASE, SIGMA, error, errors_of, start_from, write

# ------------------------------------------------------------------------------------------- merging


def test_order_is_preset_file_then_sweep_then_preset_block_then_command_line(tmp_path):
    (tmp_path / "low.yaml").write_text(
        to_yaml({"settings": {"training": {"epochs": 1, "warm_up_epochs": 0.5}, "data": {"dataset": "low"}}})
    )
    file = write(
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
    cells = expand(write(tmp_path, arms=arms, baseline="base")).cells
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
    cells = expand(write(tmp_path, settings=BASE | {"encoder": encoder}, arms=arms)).cells
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
    grid = expand(write(tmp_path, **content, preset="p", presets={"p": above}))
    config = grid.stages["s"] if where[0] == "stages" else grid.cells[0].config
    assert (config.training.optimizer.name, config.training.optimizer.learning_rate) == ("adam", 0.001)
    assert (config.encoder.name, config.encoder.stem) == ("b", "small_image")


def test_null_removes_an_arm(tmp_path):
    file = write(tmp_path, arms={"one": {}, "two": {"settings": {"method": {"pair_weight": 0.1}}}})
    assert [cell.arm for cell in expand(file, None, ["arms.one=null"]).cells] == ["two"]
    keys = {key for _, key, _ in errors_of(write(tmp_path, baseline="one"), None, ["arms.one=null"])}
    assert keys == {"arms", "baseline"}


def test_cell_names_show_every_kind_of_value(tmp_path):
    grid = {"method.noise.threshold": [0.02, float("inf"), {"quantile": 0.5}], "views.horizontal_flip": [True]}
    cells = [cell.name for cell in expand(write(tmp_path, arms={"a": {"grid": grid}})).cells]
    assert cells == [f"a threshold={value} horizontal_flip=true" for value in ("0.02", "inf", "quantile:0.5")]
    lists = {"encoder.frozen": [["conv1", "bn1"], []], "views.recipes": [[{"count": 2, "solarize_probability": None}]]}
    cells = [cell.name for cell in expand(write(tmp_path, arms={"a": {"grid": lists}})).cells]
    assert cells == [
        f"a frozen={value} recipes=[count:2,solarize_probability:null]" for value in ("[conv1, bn1]", "[]")
    ]


# ------------------------------------------------------------------------------------------ stages


def test_stages_are_named_by_configs_and_not_measured(tmp_path):
    first, measured = ({"start": {"encoder": {"stage": stage}}} for stage in ("first", "measured"))
    stages = {"first": {"training": {"epochs": 3}}, "measured": {"evaluation": {"label_level": 1}}}
    grid = expand(write(tmp_path, stages=stages, arms={"a": {"settings": first}, "b": {"settings": measured}}))
    assert [needed_stages(cell.config) for cell in grid.cells] == [{"encoder": "first"}, {"encoder": "measured"}]
    assert grid.stages["first"].evaluation is None
    assert grid.stages["measured"].evaluation is not None


def test_a_start_that_canonical_drops_needs_no_stage(tmp_path):
    start = {"start": {"decoder": {"stage": "decoder"}}}
    arms = {"base": {"settings": {"method": {"noise": {"variant": "none"}}} | start}}
    assert needed_stages(expand(write(tmp_path, arms=arms, stages={"decoder": {}})).cells[0].config) == {}


def test_unknown_stage_and_both_stage_and_file(tmp_path):
    start = {"encoder": {"stage": "pretrian"}, "decoder": {"stage": "pretrain", "file": "x.pth"}}
    errors = errors_of(write(tmp_path, settings=BASE | {"start": start}, stages={"pretrain": {"start": None}}))
    keys = {key: message for _, key, message in errors}
    assert "did you mean 'pretrain'?" in keys["settings.start.encoder.stage"]
    assert "`run` and (in a sweep) `stage`, not file, stage; null takes one back" in keys["settings.start.decoder"]


@pytest.mark.parametrize("place", ["settings", "arms", "grid", "another stage"])
def test_a_stage_that_is_named_somewhere_is_not_mistyped(tmp_path, place):
    start = {"start": start_from("pretrain")}
    stages: dict[str, object] = {"pretrain": {"start": {"encoder": None}}}
    contents: dict[str, dict[str, object]] = {
        "settings": {"settings": Layer(BASE).merge(start, ())},
        "arms": {"arms": {"a": {"settings": start}}},
        "grid": {"arms": {"a": {"grid": {"start.encoder.stage": ["pretrain"]}}}},
        "another stage": {"stages": stages | {"next": start}, "arms": {"a": {"grid": {"start": [start_from("next")]}}}},
    }
    expand(write(tmp_path, **({"stages": stages} | contents[place])))


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
        to_yaml({"settings": {"start": start_from("pretrain")}, "stages": {"pretrain": {"start": {"encoder": None}}}})
    )
    presets = {"preset": "p", "presets": {"p": {"extends": "low.yaml"}}}
    source, key, message = error(write(tmp_path, **(presets | content)), None, overrides)
    assert (source, key) == place
    assert "unknown stage 'pretrian': did you mean 'pretrain'?" in message


def test_a_stage_that_only_another_preset_starts_from_is_mistyped(tmp_path):
    other = {"settings": {"start": start_from("pretrian")}}
    file = write(
        tmp_path, stages={"pretrian": {"start": {"encoder": None}}}, preset="p", presets={"p": {}, "other": other}
    )
    assert error(file)[:2] == ("sweep.yaml", "stages.pretrian")
    assert expand(file, "other").stages


def test_a_stage_of_the_extended_file_or_set_to_null_may_stay_unused(tmp_path):
    (tmp_path / "low.yaml").write_text(to_yaml({"stages": {"pretrain": {"training": {"epochs": 3}}}}))
    block = {"extends": "low.yaml", "stages": {"pretrain": {"training": {"epochs": 2}}, "own": None}}
    grid = expand(write(tmp_path, stages={"own": {}}, preset="p", presets={"p": block}))
    assert grid.stages["pretrain"].training.epochs == 2


def test_an_override_does_not_turn_a_stage_into_a_mistyped_one(tmp_path):
    file = write(
        tmp_path, settings=BASE | {"start": start_from("pretrain")}, stages={"pretrain": {"start": {"encoder": None}}}
    )
    expand(file, None, ["settings.start.encoder={stage: null, file: weights.pth}"])


def test_a_circle_of_stages_is_told_once(tmp_path):
    stages = {
        "a": {"start": {"encoder": {"stage": "b"}}},
        "b": {"start": {"encoder": {"stage": "c"}}},
        "c": {"start": {"encoder": {"stage": "a"}}},
    }
    assert error(write(tmp_path, stages=stages)) == (
        "sweep.yaml",
        "stages.a.start",
        "stages need each other in a circle: a needs b needs c needs a",
    )


# ------------------------------------------------------------------------------------------ errors


def test_all_errors_of_a_file_at_once_each_with_its_place(tmp_path):
    (tmp_path / "low.yaml").write_text("settings: {views: {crop_aria: 3}}\nseed: [1]\n")
    file = write(
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
    errors = {(source, key): message for source, key, message in errors_of(file)}
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
    source, key, message = error(write(tmp_path, arms=arms, settings=BASE | {"training": {"global_batch_size": 96}}))
    assert (source, key) == ("sweep.yaml", "arms.a, arms.b")
    assert "queue_size 128 must be a multiple of training.global_batch_size 96" in message


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [
        ({"arms": {}}, "arms", "at least one"),
        ({"arms": {"a b": {}}}, "arms.a b", "not allowed as a name"),
        ({"name": "a/b"}, "name", "names a folder"),
        ({"preset": "x", "presets": {"x": {}, "y": 1}}, "presets.y", "must be a mapping"),
        ({"seeds": []}, "seeds", "empty"),
        ({"seeds": [-1]}, "seeds.0", "-1 is not allowed"),
        ({"seeds": 3}, "seeds", "3 is not allowed: give a list, e.g. [3]"),
        ({"seeds": "1,2"}, "seeds", "'1,2' is not allowed: give a list, e.g. [1,2]"),
        ({"seeds": "0-4"}, "seeds", "'0-4' is not allowed: give a list, e.g. [0, 1, 2]"),
        ({"seeds": None}, "seeds", "null is not allowed: give a list, e.g. [0, 1, 2]"),
        ({"seeds": True}, "seeds", "true is not allowed: give a list, e.g. [0, 1, 2]"),
        ({"settings": BASE | {"encoder": {"frozen": "conv1"}}}, "settings.encoder.frozen", "give a list, e.g. [conv1]"),
        ({"arms": {"1": {}}}, "arms.1", "'1' is not allowed as a name: begin with a letter"),
        ({"arms": {"a": {"grid": {SIGMA: []}}}}, f"arms.a.grid.{SIGMA}", "empty"),
        ({"arms": {"a": {"grid": {SIGMA: 0.1}}}}, f"arms.a.grid.{SIGMA}", "give a list"),
        ({"arms": {"a": {"grid": {SIGMA: [0.001, 1e-3]}}}}, f"arms.a.grid.{SIGMA}", "0.001 is given twice"),
        ({"arms": {"a": {"grid": {SIGMA: [True]}}}}, f"arms.a.grid.{SIGMA}", "true is not allowed"),
        (
            {"arms": {"a": {"grid": {SIGMA: ["0.1", 0.1]}}}},
            "arms.a.grid",
            "the values '0.1' and 0.1 give the same config, 'a sigma_grad_cam=0.1': keep one of them",
        ),
        ({"arms": {"a": {}, "b": {}}}, "arms.b", "cell 'b' is the same config as cell 'a'"),
        ({"arms": {"a": {"settings": {"evaluation": None}}}}, "arms.a", "must be measured"),
        ({"arms": {"a": {"grid": {SIGMA: [0.1]}}}, "baseline": "a"}, "baseline", "has a grid"),
        ({"primary": "linear_100"}, "primary", "needs the key `baseline`"),
        (
            {"baseline": "a", "arms": {"a": {}}, "equivalent_within": 0.5},
            "equivalent_within",
            "needs the key `primary`",
        ),
        ({"baseline": "a", "arms": {"a": {}}, "primary": "linear_10"}, "primary", "unknown measure of the table"),
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
    found = [(found_key, message) for _, found_key, message in errors_of(write(tmp_path, **content))]
    assert any(found_key == key and words in message for found_key, message in found), found


def test_a_list_in_place_of_a_name(tmp_path):
    stages = {"pretrain": {"start": {"encoder": None}}}
    start = {"start": {"encoder": {"stage": ["pretrain"]}}}
    _, key, message = error(write(tmp_path, stages=stages, arms={"a": {"settings": start}}))
    assert (key, message[:27]) == ("arms.a.settings.start.encoder.stage", "['pretrain'] is not allowed")
    _, key, message = error(write(tmp_path, preset=["a"], presets={"a": {}}))
    assert (key, message[:22]) == ("preset", "unknown preset \"['a']\"")


def test_an_unknown_preset_is_the_only_error(tmp_path):
    """What the preset would have brought is missed in many places: those are no errors of their own."""
    (tmp_path / "low.yaml").write_text(to_yaml({"arms": {"base": {}}}))
    file = write(tmp_path, arms={}, baseline="base", preset="demo", presets={"demo": {"extends": "low.yaml"}})
    source, key, message = error(file, "dmo")
    assert (source, key) == ("command line", "--preset")
    assert "did you mean 'demo'?" in message
    assert error(write(tmp_path, baseline="x", preset="demo"))[:2] == ("sweep.yaml", "preset")


def test_a_config_of_one_run_is_told_apart(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("seed: 3\nmethod: {name: mocov2}\n")
    assert error(file) == (
        "config.yaml",
        "",
        f"is the config of one run, not a sweep: start it with `fgssl train {file}`",
    )


def test_missing_files(tmp_path):
    assert error(tmp_path / "no.yaml") == ("no.yaml", "", f"no such file: {tmp_path} holds nothing")
    file = write(tmp_path, preset="p", presets={"p": {"extends": "no.yaml"}})
    assert error(file) == ("no.yaml", "", f"no such file: {tmp_path} holds {file.name}")
    assert error(tmp_path / "sweeps.yaml") == ("sweeps.yaml", "", f"no such file: did you mean {file}?")
