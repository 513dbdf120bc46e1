"""Fingerprints do not change when settings are added, and those of the shipped sweeps are pinned."""

import copy
import dataclasses
import json

import pytest

from fgssl.evaluation.measures.knn import KNN
from fgssl.settings.config import Config
from fgssl.settings.declare import added_later, settings
from fgssl.settings.evaluation import EvaluationSettings
from fgssl.settings.fingerprints import evaluation_fingerprint, scientific, training_fingerprint
from fgssl.settings.methods import BYOLSettings
from tests.settings.pin_fingerprints import ADVICE, PINNED, changes, table, text

SHOWN = 20


def test_the_fingerprints_of_the_shipped_sweeps_are_as_pinned():
    pinned = json.loads(PINNED.read_text())
    if found := changes(pinned, table()):
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        pytest.fail("\n".join(["Fingerprints changed:", *found[:SHOWN], *more, ADVICE]), pytrace=False)


def test_a_changed_fingerprint_is_shown_with_the_settings_that_changed():
    before = json.loads(PINNED.read_text())
    now = copy.deepcopy(before)
    now["defaults"]["training.new"] = 3
    sweep, there = next(iter(now["sweeps"].items()))
    label = next(iter(there["runs"]))
    there["runs"][label]["training"] = "another"
    assert changes(before, now) == [f"{sweep}, {label}: training fingerprint: training.new (none) -> 3"]
    there["runs"]["another"] = there["runs"].pop(label)
    assert changes(before, now) == [
        f"{sweep}, {label}: no longer a fingerprint: the sweep's cells",
        f"{sweep}, another: a new fingerprint: the sweep's cells",
    ]
    assert changes(before, before) == []
    assert json.loads(text(before)) == before


# ------------------------------------------------------------------------------------------------ growth


@settings
class Grown(BYOLSettings):
    symmetric: bool = added_later(default=True)


@settings
class GrownWithAnotherDefault(BYOLSettings):
    symmetric: bool = added_later(default=False, first=True)


def _training(method: BYOLSettings) -> str:
    return training_fingerprint(dataclasses.replace(Config(), method=method))


def test_a_field_added_later_counts_only_off_its_first_default():
    assert _training(Grown()) == _training(BYOLSettings())
    assert _training(Grown(symmetric=False)) != _training(BYOLSettings())
    assert _training(Grown(momentum=0.9)) == _training(BYOLSettings(momentum=0.9)) != _training(BYOLSettings())


def test_a_default_that_changed_later_keeps_each_run_its_name():
    assert _training(GrownWithAnotherDefault(symmetric=True)) == _training(BYOLSettings())
    assert _training(GrownWithAnotherDefault()) == _training(Grown(symmetric=False)) != _training(BYOLSettings())


def test_the_evaluation_grows_in_the_same_way():
    @settings
    class GrownEvaluation(EvaluationSettings):
        neighbors: KNN | None = added_later(default=None)

    def fingerprint(evaluation: EvaluationSettings) -> str:
        return evaluation_fingerprint(dataclasses.replace(Config(), evaluation=evaluation))

    assert fingerprint(GrownEvaluation()) == fingerprint(EvaluationSettings())
    assert fingerprint(GrownEvaluation(neighbors=KNN())) != fingerprint(EvaluationSettings())


@settings
class Section:
    size: int = 3
    weight: float = added_later(default=0.5, first=0.1)
    """Setting that was added even later, and whose default has changed since."""


@settings
class Grouped:
    sections: tuple[Section, ...] = (Section(weight=0.1),)
    section: Section = added_later(default=Section(), first=Section())


def test_a_section_added_later_may_grow_itself():
    assert scientific(Grouped(section=Section(weight=0.1))) == {"sections": [{"size": 3}]}
    assert scientific(Grouped()) == {"sections": [{"size": 3}], "section": {"size": 3, "weight": 0.5}}
    assert scientific(Grouped(section=Section(size=4, weight=0.1)))["section"] == {"size": 4}
    assert scientific(Grouped(sections=(Section(),)))["sections"] == [{"size": 3, "weight": 0.5}]
