"""Stages that start from each other: mismatches are reported when the sweep is planned."""

from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.layers import Layer, to_yaml
from hpc.sweeps.grid import expand

BASE = {"method": {"name": "synthesized", "base": {"queue_size": 128}}, "views": {"image_size": 32}}


def problems(folder: Path, content: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (file, key, message) of each problem of a sweep."""
    file = folder / "sweep.yaml"
    file.write_text(to_yaml({"name": "test"} | content))
    try:
        expand(file)
    except SettingsError as error:
        return [(Path(problem.source).name, problem.key, problem.message) for problem in error.problems]
    return []


def test_a_decoder_or_classifier_comes_from_a_stage_that_trains_one(tmp_path):
    stages: dict[str, Any] = {"pretrained": {"start": {"encoder": None}}}
    start = {"encoder": {"stage": "pretrained"}, "classifier": {"stage": "pretrained"}}
    arms = {"base": {"settings": {"method": {"name": "cross_entropy"}, "start": start}}}
    sweep = {"settings": BASE, "stages": stages, "arms": arms}
    assert problems(tmp_path, sweep) == [
        (
            "sweep.yaml",
            "arms.base.settings.start.classifier.stage",
            "stage 'pretrained' (synthesized) trains no classifier",
        )
    ]
    stages["pretrained"]["method"] = {"name": "cross_entropy"}
    assert problems(tmp_path, sweep) == []


CHAIN: dict[str, Any] = {
    "settings": BASE | {"start": {"encoder": {"stage": "s"}}},
    "stages": {"s": {"start": {"encoder": None}}},
    "arms": {"a": {}},
}
DECODER: dict[str, Any] = {
    "settings": BASE | {"start": {"decoder": {"stage": "s"}}},
    "stages": {"s": {"start": {"decoder": None}, "method": {"name": "decoder"}}},
    "arms": {"a": {}},
}
CLASSIFIER: dict[str, Any] = {
    "settings": BASE | {"start": {"classifier": {"stage": "s"}}, "method": {"name": "cross_entropy"}},
    "stages": {"s": {"start": {"classifier": None}}},
    "arms": {"a": {}},
}


@pytest.mark.parametrize(
    ("chain", "role", "change", "there", "here"),
    [
        (CHAIN, "encoder", {"encoder": {"name": "b"}}, "encoder.name resnet50", "b"),
        (CHAIN, "encoder", {"encoder": {"stem": "small_image"}}, "encoder.stem standard", "small_image"),
        (CHAIN, "encoder", {"encoder": {"arguments": {"stem_width": 1}}}, "encoder.arguments {}", "{'stem_width': 1}"),
        (DECODER, "decoder", {"encoder": {"name": "b"}}, "encoder.name resnet50", "b"),
        (
            DECODER,
            "decoder",
            {"decoder": {"name": "light", "width": 32}},
            "decoder {'name': 'light', 'width': 64}",
            "{'name': 'light', 'width': 32}",
        ),
        (
            DECODER,
            "decoder",
            {"decoder": {"name": "mirrored_resnet50"}},
            "decoder {'name': 'light', 'width': 64}",
            "{'name': 'mirrored_resnet50'}",
        ),
        (DECODER, "decoder", {"views": {"image_size": 64}}, "views.image_size 32", "64"),
        (CLASSIFIER, "classifier", {"encoder": {"name": "b"}}, "encoder.name resnet50", "b"),
        (CLASSIFIER, "classifier", {"method": {"level": 1}}, "method.level 0", "1"),
        (CLASSIFIER, "classifier", {"data": {"dataset": "birds"}}, "data.dataset toy", "birds"),
    ],
)
def test_what_a_stage_trains_must_fit_what_starts_from_it(tmp_path, chain, role, change, there, here):
    assert problems(tmp_path, chain) == []
    message = f"stage 's' has {there}, but the run that starts its {role} from it has {here}: give both the same value"
    in_arm = Layer(chain).merge({"arms": {"a": {"settings": change}}}, ())
    assert problems(tmp_path, in_arm) == [("sweep.yaml", f"settings.start.{role}.stage", message)]
    [(name, value)] = change.items()
    in_grid = Layer(chain).merge({"arms": {"a": {"grid": {name: [value]}}}}, ())
    [(_, _, told)] = problems(tmp_path, in_grid)
    assert told == message


@pytest.mark.parametrize("chain", [CHAIN, DECODER, CLASSIFIER])
def test_what_has_no_weights_may_differ_from_the_stage(tmp_path, chain):
    other = {
        "encoder": {"frozen": ["conv1"], "batch_norm_group_size": 64, "arguments": {"drop_path_rate": 0.1}},
        "training": {"epochs": 3},
    }
    assert problems(tmp_path, Layer(chain).merge({"arms": {"a": {"settings": other}}}, ())) == []


def test_an_encoder_may_come_from_a_stage_of_other_data_and_image_size(tmp_path):
    other = {"data": {"dataset": "birds"}, "views": {"image_size": 64}, "decoder": {"name": "mirrored_resnet50"}}
    assert problems(tmp_path, Layer(CHAIN).merge({"arms": {"a": {"settings": other}}}, ())) == []


def test_a_stage_that_another_stage_starts_from_must_fit_too(tmp_path):
    first = {"start": {"encoder": None}, "encoder": {"name": "b"}}
    stages = {"first": first, "s": {"start": {"encoder": {"stage": "first"}}}}
    assert problems(tmp_path, CHAIN | {"stages": stages}) == [
        (
            "sweep.yaml",
            "stages.s.start.encoder.stage",
            "stage 'first' has encoder.name b, but the run that starts its encoder from it has resnet50: give both the "
            "same value",
        )
    ]
