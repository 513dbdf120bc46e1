"""Retrieval across groups as a measure: of packed images, and where there is nothing to measure."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fgssl.__main__ import invoke
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError, UserError
from fgssl.evaluation.measures.retrieval import Retrieval
from fgssl.evaluation.measures.retrieval_across import RetrievalAcross
from fgssl.evaluation.ranking import retrieval
from fgssl.progress import silent
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.store.features import read_features
from fgssl.store.outcomes import Outcomes
from tests.data.photos import jpeg

Make = Callable[..., Config]
ACROSS = ("rank1_across", "rank5_across", "mAP_across")
WITH_GROUP = ("rank1_with_group", "rank5_with_group", "mAP_with_group")
SWEEP = """
name: tracks
seeds: [0]
settings: {method: {name: start_encoder}, views: {image_size: 32}, evaluation: {retrieval_across: true}}
arms: {one: {}}
"""


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two classes with three tracks of three frames in either split."""
    lines = ["path,class,split,track"]
    (tmp_path / "images").mkdir()
    for number in range(36):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(jpeg(number))
        split = "train" if number < 18 else "test"
        lines.append(f"images/{number}.jpg,{'ab'[number // 9 % 2]},{split},track {number // 3}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    invoke(["pack", "csv", str(tmp_path / "table.csv"), str(tmp_path / "shards"), "group=track", "labels=[class]"])
    return tmp_path / "shards"


def of(shards: Path, tiny_config: Make, *overrides: str) -> Config:
    evaluation = "evaluation={linear: null, retrieval_across: true, keep_features: float32}"
    data = f"data={{dataset: table, folder: {shards}}}"
    return tiny_config("method={name: start_encoder}", evaluation, data, *overrides)


def test_frames_of_the_querys_track_are_left_out(shards: Path, tiny_config: Make, tmp_path: Path) -> None:
    config = of(shards, tiny_config)
    folder = execute(config, tmp_path / "out")
    record, kept, test = folder.evaluation(config), read_features(folder.features), ShardedSplit(shards, "test")
    assert record is not None
    assert kept is not None
    expected = retrieval(kept.splits["test"], test.labels[:, 0], groups=test.groups)
    assert [record.measures[name] for name in ACROSS] == list(expected.values())
    assert [record.measures[name] for name in WITH_GROUP] == [record.measures[name] for name in expected]
    assert record.measures["queries_across"] == 100
    assert config.evaluation is not None
    assert not [text for text in config.evaluation.remarks(record.measures) if "across" in text]
    outcomes = folder.outcomes(config)
    assert outcomes is not None
    for name in (*ACROSS, *WITH_GROUP):
        found = outcomes.of(name)
        assert found is not None
        assert 100 * found.mean() == pytest.approx(record.measures[name], abs=0.1)  # float16


def test_what_the_own_group_adds_is_measured_over_the_same_queries() -> None:
    """A class in groups of one image, which gains nothing from them, and an easy one in a single group."""
    easy, hard = np.eye(8)[4:] * 0.01 + np.eye(8)[4], np.eye(8)[:4] + np.eye(8)[4] * 0.5
    labels, groups = np.repeat([0, 1], 4), np.array([0, 1, 2, 3, 4, 4, 4, 4])
    features: Any = SimpleNamespace(
        of_test=torch.from_numpy(np.concatenate([hard, easy])),
        test_labels=torch.from_numpy(labels),
        test=SimpleNamespace(groups=groups),
        track=silent,
        outcomes=Outcomes(),
    )
    measure = RetrievalAcross()
    values = measure.value(features)
    assert Retrieval().value(features)["rank1"] == 50
    assert [values["rank1_across"], values["rank1_with_group"], values["queries_across"]] == [0, 0, 50]
    assert [values[f"{name}_across"] for name in ("rank5", "mAP")] == pytest.approx(
        [values[f"{name}_with_group"] for name in ("rank5", "mAP")]
    )
    assert values.keys() == {column.name for column in measure.columns()}
    (remark,) = measure.remarks(values)
    assert "mAP_across: 50.00 percent of the queries of retrieval have" in remark
    assert np.array_equal(np.isnan(features.outcomes.of("rank1_with_group")), labels == 1)
    assert measure.remarks({"rank1_across": 50.0}) == []  # as an earlier version measured


def test_images_without_groups_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    message = "evaluation.retrieval_across: no test image of dataset 'toy' has a positive in another group"
    with pytest.raises(UserError, match=message):
        invoke(["sweep", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out"), "--dry-run"])


def test_data_of_an_earlier_version_are_refused_before_training(
    shards: Path, tiny_config: Make, tmp_path: Path
) -> None:
    toy = tiny_config("method={name: start_encoder}", "evaluation={linear: null}")
    execute(toy, tmp_path)
    (of_toy,) = tmp_path.glob("data/toy-*/manifest.json")
    for manifest in (shards / "manifest.json", of_toy):
        manifest.write_text(manifest.read_text().replace('"across_groups"', '"unknown"'))
    config = of(shards, tiny_config)
    assert execute(config, tmp_path).evaluation(config) is not None
    toy = tiny_config("method={name: start_encoder}", "evaluation={linear: null, retrieval_across: true}")
    with pytest.raises(DataError, match="retrieval_across: no test image has a positive in another group"):
        execute(toy, tmp_path)
