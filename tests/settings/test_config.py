"""Settings: merging, errors with their place, fingerprints."""

import dataclasses
import re
from datetime import date
from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.config import CHOICES, Config, canonical, load, overridden, parse
from fgssl.settings.fingerprints import evaluation_fingerprint, run_name, to_mapping, to_yaml, training_fingerprint
from fgssl.settings.layers import Layer, nested, parse_overrides
from fgssl.settings.methods import MoCoV2Settings


def _problems(mapping):
    with pytest.raises(SettingsError) as caught:
        parse(mapping, "file.yaml")
    return {problem.key: problem.message for problem in caught.value.problems}


def _config(**overrides) -> Config:
    mapping: dict = {}
    for key, value in overrides.items():
        mapping = Layer(mapping).merge(nested(key.replace("__", "."), value), CHOICES)
    return parse(mapping, "test")


# ------------------------------------------------------------------------------------------- merging


def test_merge_is_deep_and_above_wins():
    below = {"a": {"x": 1, "y": 2}, "b": 3}
    assert Layer(below).merge({"a": {"y": 5, "z": 6}, "b": {"c": 1}}) == {"a": {"x": 1, "y": 5, "z": 6}, "b": {"c": 1}}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}


def test_merge_of_another_choice_keeps_nothing_of_the_old_one():
    sgd = {"training": {"epochs": 3, "optimizer": {"name": "sgd", "momentum": 0.5}}}
    adam = {"training": {"optimizer": {"name": "adam"}}}
    assert Layer(sgd).merge(adam, CHOICES) == {"training": {"epochs": 3, "optimizer": {"name": "adam"}}}
    assert Layer(sgd).merge({"training": {"optimizer": {"name": "sgd"}}}, CHOICES) == sgd
    faster = {"training": {"optimizer": {"learning_rate": 1}}}
    assert Layer(sgd).merge(faster, CHOICES)["training"]["optimizer"]["momentum"] == 0.5


def test_the_choices_are_those_of_the_types():
    by_name = {("method",), ("decoder",), ("training", "optimizer")}
    assert set(CHOICES) == by_name | {(*choice, "*") for choice in by_name}  # such as method.base


def test_merge_of_another_base_keeps_the_method_around_it():
    below = {"method": {"name": "synthesized", "bank_size": 64, "base": {"name": "mocov2", "queue_size": 128}}}
    merged = Layer(below).merge({"method": {"base": {"name": "simsiam"}}}, CHOICES)
    assert merged == {"method": {"name": "synthesized", "bank_size": 64, "base": {"name": "simsiam"}}}


def test_another_encoder_keeps_the_settings_around_its_name():
    """They are of every encoder alike: nothing of them is bound to the name."""
    below = {"encoder": {"name": "resnet18", "stem": "small_image", "arguments": {"drop_rate": 0.1}}}
    merged = Layer(below).merge({"encoder": {"name": "resnet34"}}, CHOICES)
    assert merged == {"encoder": below["encoder"] | {"name": "resnet34"}}


def test_merge_with_null_empties():
    assert Layer({"start": {"encoder": {"run": "x"}}}).merge({"start": {"encoder": None}}) == {
        "start": {"encoder": None}
    }


def test_overrides_are_yaml_values():
    overrides = parse_overrides(["a.b=1e-3", "c=[1, 2]", "d={x: null}", "e=a=b"])
    assert overrides == {"a.b": 0.001, "c": [1, 2], "d": {"x": None}, "e": "a=b"}
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["novalue", "1a=2", "x=[1"])
    assert [problem.key for problem in caught.value.problems] == ["novalue", "1a=2", "x"]


# -------------------------------------------------------------------------------------------- errors


def test_a_list_of_overrides_may_repeat_a_key_but_a_command_line_may_not(tmp_path):
    assert overridden({"seed": 0}, ["seed=1", "training.epochs=1", "seed=2"]) == {"seed": 2, "training": {"epochs": 1}}
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(SettingsError, match=r"^command line: seed: this key is given twice: keep one of them$"):
        load(tmp_path / "config.yaml", ["seed=1", "seed=2"])


def test_all_errors_at_once_with_key_value_and_what_is_allowed():
    problems = _problems(
        {
            "trainin": {},
            "training": {"epochs": 0, "optimizer": {"name": "sdg"}, "schedule": "linear"},
            "method": {
                "name": "synthesized",
                "noise": {"variant": "grad_camm", "sigma_gradcam": 1},
                "pair_weight": "x",
            },
            "views": {"horizontal_flip": "perhaps", "crop_area": [0.5, 0.2]},
        }
    )
    assert "did you mean 'training'?" in problems["trainin"]
    assert problems["training.epochs"] == "0 is not allowed: input should be greater than 0"
    assert "did you mean 'sgd'? allowed: sgd, adam" in problems["training.optimizer.name"]
    assert "'cosine' or 'constant'" in problems["training.schedule"]
    assert "'grad_camm' is not allowed" in problems["method.noise.variant"]
    assert "did you mean 'sigma_grad_cam'?" in problems["method.noise.sigma_gradcam"]
    assert "'x' is not allowed" in problems["method.pair_weight"]
    assert "'perhaps' is not allowed" in problems["views.horizontal_flip"]


def test_a_mistyped_name_is_recognized():
    message = _problems({"method": {"names": "mocov2"}})["method"]
    assert message.startswith("`name` is missing (mistyped as 'names'?): give one of start_encoder, ")
    assert _problems({"method": {"queue_size": 64}})["method"].startswith("`name` is missing: give one of ")


def test_a_list_that_is_too_short():
    for key, given in (("crop_area", [0.2]), ("mean", [0.5]), ("std", [])):
        assert _problems({"views": {key: given}}) == {f"views.{key}": f"{given} is not allowed: too few values"}
    assert list(_problems({"views": {"recipes": [{"crop_area": [0.1]}]}})) == ["views.recipes.0.crop_area"]


def test_each_problem_names_the_file():
    with pytest.raises(SettingsError, match=r"^file\.yaml: seed: -1 is not allowed"):
        parse({"seed": -1}, "file.yaml")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"training": {"global_batch_size": 100}}, "must be a multiple of encoder.batch_norm_group_size 32"),
        ({"method": {"name": "mocov2", "queue_size": 1000}}, "queue_size 1000 must be a multiple"),
        ({"resources": {"micro_batch_size": 48}}, "resources.micro_batch_size 48"),
        ({"method": {"name": "decoder"}, "decoder": None}, "decoder is empty"),
        ({"method": {"name": "decoder"}, "views": {"image_size": 48}}, "decoder light makes 8, 16, 32"),
    ],
)
def test_settings_that_do_not_fit_each_other(mapping, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        parse(mapping, "file.yaml")


@pytest.mark.parametrize(
    "mapping",
    [
        {"training": {"epochs": True}},
        {"training": {"optimizer": {"learning_rate": True}}},
        {"views": {"mean": [0.5, True, 0.5]}},
        {"views": {"image_size": 32}, "method": {"name": "synthesized", "noise": {"gradient_sign": True}}},
        {"views": {"image_size": 32}, "method": {"name": "synthesized", "noise": {"threshold": True}}},
        {"data": {"toy": {"image_size": True}}},
        {"seed": False},
    ],
)
def test_a_boolean_is_no_number(mapping):
    [(_, message)] = _problems(mapping).items()
    assert re.match("(true|false) is not allowed: give a number", message)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "key",
    [
        *("views.mean", "views.std", "views.crop_area", "evaluation.linear.milestones"),
        *("evaluation.linear.learning_rates", "evaluation.linear.label_fractions", "training.optimizer.momentum"),
        *("training.warm_up_epochs", "views.hue"),
    ],
)
def test_numbers_are_finite(key, value):
    length = {"views.mean": 3, "views.std": 3, "views.crop_area": 2}.get(key, 1)
    single = key.rpartition(".")[2] in ("momentum", "warm_up_epochs", "hue")
    assert any(found.startswith(key) for found in _problems(nested(key, value if single else [value] * length)))


def test_no_threshold_that_is_no_number():
    noise = {"threshold": float("nan")}
    assert _problems({"views": {"image_size": 32}, "method": {"name": "synthesized", "noise": noise}})


@pytest.mark.parametrize("key", ["label_fractions", "learning_rates"])
def test_a_linear_probe_needs_labels_and_a_rate(key):
    key = f"evaluation.linear.{key}"
    assert "at least 1 item" in _problems(nested(key, []))[key]


def test_the_fixed_recipe_has_one_rate(tmp_path: Path):
    message = _problems({"evaluation": {"linear": {"recipe": "fixed"}}})["evaluation.linear"]
    assert "give one, such as learning_rates: [30.0]" in message
    (tmp_path / "config.yaml").write_text(to_yaml(_config()))
    with pytest.raises(SettingsError, match=r"\[30\.0\]"):
        load(tmp_path / "config.yaml", ["evaluation.linear.recipe=fixed"])
    load(tmp_path / "config.yaml", ["evaluation.linear={recipe: fixed, learning_rates: [30.0]}"])


@pytest.mark.parametrize("value", [date(2026, 1, 31), [1, date(2026, 1, 31)], {"deep": date(2026, 1, 31)}, {1, 2}])
def test_encoder_arguments_are_what_json_can_hold(value):
    with pytest.raises(SettingsError, match=r"encoder\.arguments\.when.*not a valid json value"):
        parse({"encoder": {"arguments": {"when": value}}}, "config.yaml")


def test_numbers_with_an_exponent_are_numbers_and_strings_are_strings(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text(
        'data: {dataset: "1e5", folder: x}\ntraining: {epochs: 1e2, optimizer: {learning_rate: 1e-3}}\n'
        "encoder: {arguments: {drop_rate: 5E-2}}"
    )
    config = load(file)
    assert (config.data.dataset, config.training.epochs) == ("1e5", 100)
    assert (config.training.optimizer.learning_rate, config.encoder.arguments) == (0.001, {"drop_rate": 0.05})
    file.write_text(to_yaml(config))
    assert load(file) == config
    with pytest.raises(SettingsError, match=r"data\.dataset: 100000\.0 is not allowed: .* put it in quotes"):
        load(file, ["data.dataset=1e5"])
    assert load(file, ['data.dataset="2e5"']).data.dataset == "2e5"


def test_start_is_one_of_file_and_run():
    assert "exactly one" in _problems({"start": {"encoder": {"file": "a", "run": "b"}}})["start.encoder"]


def test_a_prefix_goes_with_a_file_and_changes_the_fingerprint():
    assert "omit it" in _problems({"start": {"encoder": {"run": "b", "prefix": "student"}}})["start.encoder"]
    plain, chosen = (_config(start__encoder=start) for start in ({"file": "a"}, {"file": "a", "prefix": "student"}))
    assert training_fingerprint(plain) != training_fingerprint(chosen)


def test_a_single_run_starts_from_no_stage(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("start:\n  encoder: {stage: pretrain}\n")
    with pytest.raises(SettingsError) as caught:
        load(file)
    words = "start.encoder.stage: 'pretrain' is not allowed: only a sweep has stages; give `run` or `file`"
    assert str(caught.value) == f"{file}:2: {words}"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_files_that_hold_no_settings(tmp_path: Path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=str(file)):
        load(file)


# -------------------------------------------------------------------------------------- fingerprints


def test_fingerprint_ignores_order_and_spelling():
    one = parse({"seed": 1, "training": {"epochs": 2, "optimizer": {"name": "sgd", "learning_rate": "1e-3"}}}, "")
    two = parse({"training": {"optimizer": {"learning_rate": 0.001, "name": "sgd"}, "epochs": 2.0}, "seed": 1}, "")
    assert one == two
    assert training_fingerprint(one) == training_fingerprint(two)


def test_fingerprint_ignores_what_cannot_change_a_result():
    base = training_fingerprint(_config())
    assert training_fingerprint(_config(resources__threads=7, data__folder="elsewhere")) == base
    assert training_fingerprint(_config(resources__log_every_steps=3)) == base
    assert evaluation_fingerprint(_config(resources__evaluation_batch_size=7)) == evaluation_fingerprint(_config())


def test_fingerprint_tells_everything_else_apart():
    configs = [
        _config(),
        _config(seed=1),
        _config(training__epochs=7),
        _config(training__optimizer__name="adam"),
        _config(data__toy__seed=3),
        _config(views__hue=0.2),
        _config(method__name="synthesized", views__image_size=32),
        _config(views__image_size=32),
        _config(start__encoder__run="x"),
        _config(encoder__arguments={"drop_rate": 0.1}),
    ]
    assert len({training_fingerprint(config) for config in configs}) == len(configs)


def test_a_start_file_counts_by_content_not_by_path():
    """The content is guarded by its hash in the run folder; a moved file must not train everything again."""
    one, two = (_config(start__encoder__file=path) for path in ("weights.pth", "/elsewhere/weights.pth"))
    assert training_fingerprint(one) == training_fingerprint(two)
    assert len({training_fingerprint(config) for config in (one, _config(), _config(start__encoder__run="file"))}) == 3


def test_evaluation_has_its_own_fingerprint():
    one, two = _config(), _config(evaluation__label_level=1)
    assert training_fingerprint(one) == training_fingerprint(two)
    assert evaluation_fingerprint(one) != evaluation_fingerprint(two)


def test_toy_settings_count_for_toy_only():
    birds = [_config(data__dataset="birds", data__toy__seed=seed) for seed in (0, 1)]
    assert training_fingerprint(birds[0]) == training_fingerprint(birds[1])


def test_canonical_empties_what_is_not_used():
    small = {"queue_size": 128, "hidden_width": 16}
    none = _config(method={"name": "synthesized", "base": small, "noise": {"variant": "none"}}, views__image_size=32)
    plain = _config(method={"name": "mocov2", **small}, views__image_size=32)
    assert none == plain
    assert none.decoder is None
    assert isinstance(none.method, MoCoV2Settings)
    assert canonical(none) == none
    assert run_name(none).startswith("mocov2-seed0-")


def test_an_untouched_encoder_does_not_depend_on_the_training():
    one, two = (_config(method__name="start_encoder", training__epochs=epochs) for epochs in (1, 2))
    assert training_fingerprint(one) == training_fingerprint(two)


# ---------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("threshold", [0.02, float("inf"), {"quantile": 0.3}])
def test_yaml_holds_the_whole_config(tmp_path: Path, threshold):
    config = _config(method={"name": "synthesized", "noise": {"threshold": threshold}}, views__image_size=32)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load(tmp_path / "config.yaml") == config
    assert parse(to_mapping(config), "") == config


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _config().seed = 3  # type: ignore[misc]


def test_a_classifier_is_measured_only_where_one_is_trained():
    for method in ("start_encoder", "mocov2"):
        with pytest.raises(SettingsError, match=f"method {method} trains no classifier: take .* cross_entropy"):
            parse({"views": {"image_size": 32}, "method": {"name": method}, "evaluation": {"classifier": True}}, "x")
    with pytest.raises(SettingsError, match=r"trained on method.level 1, but measured on evaluation.label_level 0"):
        parse({"method": {"name": "cross_entropy", "level": 1}, "evaluation": {"classifier": True}}, "x")
    parse({"method": {"name": "cross_entropy"}, "evaluation": {"classifier": True}}, "x")
