"""Sweep files: overrides of the command line, and the lines that errors name."""

import pytest

from fgssl.errors import SettingsError
from hpc.sweeps.grid import expand
from tests.hpc.sweeps.sweep_files import BASE, SIGMA, error, errors_of, start_from, write

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
    source, _, message = error(write(tmp_path), None, [override])
    assert source == "command line"
    assert words in message


def test_settings_that_another_name_drops_are_told(tmp_path):
    file = write(tmp_path)
    assert expand(file, None, ["method.pair_weight=0.1"]).cautions == []
    grid = expand(file, None, ["method.name=simclr"])
    assert grid.cells[0].config.method.name == "simclr"
    assert grid.cautions == [
        "command line: another settings.method.name drops these settings: settings.method.base.queue_size"
    ]


def test_a_missing_key_is_told_where_it_is_missing(tmp_path):
    settings = BASE | {"evaluation": {"outliers": {"centroids": "test"}}}
    assert error(write(tmp_path, settings=settings)) == (
        "sweep.yaml",
        "settings.evaluation.outliers",
        "`levels` is missing: it has no default; give evaluation.outliers.levels, e.g. {species: 0, genus: 1}",
    )


def test_an_unknown_key_in_an_override_is_shown_as_typed(tmp_path):
    source, key, message = error(write(tmp_path), None, ["training.epoch=2"])
    assert (source, key) == ("command line", "training.epoch")
    assert "did you mean 'epochs'?" in message


@pytest.mark.parametrize("value", ["1", "{}", "{name: x}"])
def test_an_unknown_key_that_every_arm_drops_by_another_name(tmp_path, value):
    arms = {"a": {"settings": {"method": {"name": "simclr"}}}}
    source, key, message = error(write(tmp_path, arms=arms), None, [f"method.par_weight={value}"])
    assert (source, key) == ("command line", "method.par_weight")
    assert "unknown key 'par_weight': did you mean 'pair_weight'?" in message
    other = {"method": {"base": {"name": "simsiam"}}}
    base: dict[str, object] = {
        "name": "synthesized",
        "base": {"predictor_width": 8},
    }  # a key of the base that the arm chooses
    assert (
        len(
            expand(
                write(tmp_path, settings={"method": base, "views": {"image_size": 32}}, arms={"a": {"settings": other}})
            ).cells
        )
        == 1
    )


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
    file = write(tmp_path, **content)
    _, _, message = error(file, None, [override])
    assert f"{setter} sets this key" in message
    expand(file, None, [f"settings.{override}"])  # said so expressly, it holds for all the others


def test_overrides_of_the_sweep_itself(tmp_path):
    arms = {"a": {"settings": {"start": start_from("s")}, "grid": {SIGMA: [0.1, 0.2]}}}
    file = write(tmp_path, arms=arms, stages={"s": {}})
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
    settings = BASE | {"start": start_from("s")}
    arms = {"a": {"settings": {"training": {"epochs": 0}}}}
    file = write(tmp_path, settings=settings, stages={"s": {"start": {"encoder": None}}}, arms=arms)
    assert error(file)[:2] == ("sweep.yaml", "arms.a.settings.training.epochs")


def test_keys_given_twice_are_refused_with_both_lines(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("arms:\n  a: {}\n  b: {}\n  a: {settings: {}}\nseeds: [1]\nseeds: [2]\n")
    assert errors_of(file) == [
        ("sweep.yaml", "arms.a", "this key is given twice (first in line 2): keep one of them"),
        ("sweep.yaml", "seeds", "this key is given twice (first in line 5): keep one of them"),
    ]


def test_arms_may_have_names_that_other_yaml_takes_for_truth_values(tmp_path):
    names = ["on", "off", "no", "true", "null"]
    file = tmp_path / "sweep.yaml"
    arms = "".join(f"  {name}: {{settings: {{training: {{epochs: {n}}}}}}}\n" for n, name in enumerate(names, 1))
    file.write_text(f"arms:\n{arms}seeds: [007, 010]\nname: test\n")
    grid = expand(file)
    assert ([cell.arm for cell in grid.cells], grid.settings.seeds) == (names, (7, 10))
