"""Settings: merging, errors with their place, fingerprints."""

import dataclasses
import re
from pathlib import Path

import pytest

from fgssl.config import (
    Config,
    canonical,
    evaluation_fingerprint,
    load,
    merge,
    nested,
    parse,
    parse_overrides,
    run_name,
    to_mapping,
    to_yaml,
    training_fingerprint,
)
from fgssl.errors import SettingsError
from fgssl.methods.settings import MoCoV2Settings


def _problems(mapping):
    with pytest.raises(SettingsError) as caught:
        parse(mapping, "file.yaml")
    return {problem.key: problem.message for problem in caught.value.problems}


def _config(**overrides) -> Config:
    mapping: dict = {}
    for key, value in overrides.items():
        mapping = merge(mapping, nested(key.replace("__", "."), value))
    return parse(mapping, "test")


# ------------------------------------------------------------------------------------------- merging


def test_merge_is_deep_and_above_wins():
    below = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(below, {"a": {"y": 5, "z": 6}, "b": {"c": 1}}) == {"a": {"x": 1, "y": 5, "z": 6}, "b": {"c": 1}}
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}


def test_merge_of_another_choice_keeps_nothing_of_the_old_one():
    sgd = {"optimizer": {"name": "sgd", "momentum": 0.5}}
    assert merge(sgd, {"optimizer": {"name": "adam"}}) == {"optimizer": {"name": "adam"}}
    assert merge(sgd, {"optimizer": {"name": "sgd"}}) == sgd
    assert merge(sgd, {"optimizer": {"learning_rate": 1}})["optimizer"]["momentum"] == 0.5


def test_merge_with_null_empties():
    assert merge({"start": {"encoder": {"run": "x"}}}, {"start": {"encoder": None}}) == {"start": {"encoder": None}}


def test_overrides_are_yaml_values():
    overrides = parse_overrides(["a.b=1e-3", "c=[1, 2]", "d={x: null}", "e=a=b"])
    assert overrides == {"a.b": "1e-3", "c": [1, 2], "d": {"x": None}, "e": "a=b"}
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["novalue", "1a=2", "x=[1"])
    assert [problem.key for problem in caught.value.problems] == ["novalue", "1a=2", "x"]


# -------------------------------------------------------------------------------------------- errors


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


def test_each_problem_names_the_file():
    with pytest.raises(SettingsError, match=r"^file\.yaml: seed: -1 is not allowed"):
        parse({"seed": -1}, "file.yaml")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"training": {"global_batch_size": 100}}, "no multiple of encoder.batch_norm_group_size 32"),
        ({"method": {"name": "mocov2", "queue_size": 1000}}, "queue_size 1000 is no multiple"),
        ({"resources": {"micro_batch_size": 48}}, "resources.micro_batch_size 48"),
        ({"method": {"name": "decoder"}, "decoder": None}, "decoder is empty"),
        ({"method": {"name": "decoder"}, "views": {"image_size": 48}}, "decoder light makes 8, 16, 32"),
    ],
)
def test_settings_that_do_not_fit_each_other(mapping, words):
    with pytest.raises(SettingsError, match=re.escape(words)):
        parse(mapping, "file.yaml")


def test_start_is_one_of_file_and_run():
    assert "exactly one" in _problems({"start": {"encoder": {"file": "a", "run": "b"}}})["start.encoder"]


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
    assert training_fingerprint(_config(resources__checkpoint_every_steps=3)) == base


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


def test_evaluation_has_its_own_fingerprint():
    one, two = _config(), _config(evaluation__batch_size=7)
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
    one, two = (_config(method__name="untouched", training__epochs=epochs) for epochs in (1, 2))
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
