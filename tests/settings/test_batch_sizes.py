"""Advice on numbers of images: whoever follows it meets no further fault."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.config import Config, overridden, parse
from fgssl.settings.fingerprints import to_mapping
from fgssl.store.requirements import cautions, unmet
from tests.store.test_requirements import fungi

SYNTHESIZED = {"name": "synthesized", "bank_size": 8, "base": {"name": "mocov2", "queue_size": 100}}
ADVISED = re.compile(r"(\S+) (\d+|null)(?:, |$)")


def _settings(method: dict[str, Any], **sections: Mapping[str, Any]) -> dict[str, Any]:
    return {"views": {"image_size": 32}, "method": method, **sections}


def _followed(settings: Mapping[str, Any], message: str) -> Mapping[str, Any]:
    """Return the settings after the advice at the end of a message."""
    advice = ADVISED.findall(message.rpartition("take ")[2])
    assert advice, message
    return overridden(settings, [f"{key}={value}" for key, value in advice])


def _parsed(settings: Mapping[str, Any]) -> Config:
    """Return the config, after following the one advice that all of its faults give, if there are any."""
    try:
        return parse(settings, "test")
    except SettingsError as error:
        (advice,) = {problem.message.rpartition("take ")[2] for problem in error.problems}
        return parse(_followed(settings, advice), "test")


SIZES = [
    *itertools.product((1, 30, 48, 64, 128), (1, 4, 32), (None, 1, 3, 16), ("close",), (None, 48)),
    *itertools.product((3, 48, 100), (4, 32), (None,), ("exact",), (None,)),
]


@pytest.mark.parametrize("method", [SYNTHESIZED, {"name": "mocov2"}, {"name": "supcon"}], ids=lambda one: one["name"])
def test_advice_removes_all_faults_at_once(method: dict[str, Any]) -> None:
    fewer, many = fungi(train=((20, 13, 5, 9), (33, 14))), fungi()
    for batch, group, per_class, invariant, micro in SIZES:
        training = {"global_batch_size": batch, "images_per_class": per_class, "invariant": invariant}
        sections: dict[str, Mapping[str, Any]] = {
            "training": training,
            "encoder": {"batch_norm_group_size": group},
            "resources": {"micro_batch_size": micro},
        }
        config = _parsed(_settings(method, **sections))
        for manifest in (fewer, many):
            faults = [line for line in unmet(config, manifest) if line.startswith("training.")]
            assert len({line.rpartition("take ")[2] for line in faults}) < 2
            if faults:
                followed = parse(_followed(to_mapping(config), faults[0]), "test")
                assert [line for line in unmet(followed, manifest) if line.startswith("training.")] == []
                assert cautions(followed, manifest) == []


def _advice(method: dict[str, Any], **sections: Mapping[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(_settings(method, **sections), "test")
    (advice,) = {problem.message.rpartition(": ")[2] for problem in caught.value.problems}
    return advice


def test_advice_leaves_the_batch_norm_group_if_it_can() -> None:
    training = {"global_batch_size": 64, "images_per_class": 3}
    encoder = {"batch_norm_group_size": 32}
    assert _advice({"name": "supcon"}, training=training, encoder=encoder) == "take training.images_per_class 4"


def test_sizes_of_which_none_near_fit() -> None:
    training = {"global_batch_size": 48, "images_per_class": 3, "invariant": "exact", "exact_shard_size": 48}
    config = parse(_settings({"name": "simclr"}, training=training, encoder={"batch_norm_group_size": 2}), "test")
    line, *_ = unmet(config, fungi(train=((10, 10, 9, 9), (20, 18))))
    assert line.endswith(
        "which do not fill one batch: change training.global_batch_size, encoder.batch_norm_group_size, "
        "training.images_per_class, training.exact_shard_size"
    )
