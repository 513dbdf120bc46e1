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
    queue = "method.base.queue_size" if "base" in settings["method"] else "method.queue_size"
    return overridden(settings, [f"{queue if key == 'queue_size' else key}={value}" for key, value in advice])


def _parsed(settings: Mapping[str, Any]) -> Config:
    """Return the config, after following the one advice that all of its faults give, if there are any."""
    try:
        return parse(settings, "test")
    except SettingsError as error:
        (advice,) = {problem.message.rpartition("take ")[2] for problem in error.problems}
        return parse(_followed(settings, advice), "test")


SIZES = [
    *itertools.product((1, 30, 48, 128), (1, 4, 32), (None, 1, 3, 16), ("close",), (None, 48)),
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
