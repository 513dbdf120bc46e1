"""Features are computed once, stored with the evaluation, and reused if they are exact."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fgssl.data import loader
from fgssl.evaluation import features
from fgssl.evaluation.ranking import retrieval
from fgssl.run.data import open_splits
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.store.features import Origin, read_features
from fgssl.store.files import file_sha256
from fgssl.store.provenance import code_version
from fgssl.store.run_folder import RunFolder

PROBE = "linear: {epochs: 2, learning_rates: [1.0], label_fractions: [1.0]}"
Tiny = Callable[..., Config]


def config_of(tiny_config: Tiny, keys: str) -> Config:
    return tiny_config("method={name: start_encoder}", f"evaluation={{{keys}}}")


def files(folder: RunFolder) -> set[str]:
    return {file.name for file in folder.path.iterdir() if file.suffix in (".json", ".safetensors")}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the sizes of the splits that are encoded."""
    seen: list[int] = []
    batches = loader.evaluation_batches

    def count(images: Any, *given: Any, **keys: Any) -> Any:
        seen.append(len(images))
        return batches(images, *given, **keys)

    monkeypatch.setattr(features, "evaluation_batches", count)
    return seen


def record(folder: RunFolder) -> dict[str, Any]:
    (file,) = folder.path.glob("evaluation-*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    file.unlink()
    return found


def test_both_splits_lie_in_one_file_by_row(tiny_config: Tiny, tmp_path: Path) -> None:
    config = config_of(tiny_config, f"{PROBE}, keep_features: float32")
    folder = execute(config, tmp_path)
    kept = read_features(folder.features)
    assert kept is not None
    _, test = open_splits(config, tmp_path)
    assert test is not None
    found = {split: (len(one), one.dtype.name) for split, one in kept.splits.items()}
    assert found == {"train": (192, "float32"), "test": (len(test), "float32")}
    assert kept.origin == Origin(data_version=test.version, encoder_sha256=file_sha256(folder.encoder))
    measured = record(folder)
    assert measured["features_bytes"] == folder.features.stat().st_size
    assert retrieval(kept.splits["test"], test.labels[:, 0]) == {
        name: measured["measures"][name] for name in ("rank1", "rank5", "mAP")
    }


def test_rounding_is_for_the_file_alone(tiny_config: Tiny, tmp_path: Path, encoded: list[int]) -> None:
    def found(keep: str) -> tuple[dict[str, float], RunFolder]:
        folder = execute(config_of(tiny_config, f"{PROBE}, collapse: true, keep_features: {keep}"), tmp_path)
        measures: dict[str, float] = record(folder)["measures"]
        return measures, folder

    exact, folder = found("null")
    assert "features.safetensors" not in files(folder)
    rounded, folder = found("float16")
    assert {found.dtype for found in load_file(folder.features).values()} == {np.dtype("float16")}
    assert encoded == [192, 48] * 2
    again, folder = found("float32")  # float16 features are not read again
    assert encoded == [192, 48] * 3
    assert exact == rounded == again


def test_exact_features_are_read_again_and_completed(tiny_config: Tiny, tmp_path: Path, encoded: list[int]) -> None:
    keep = "keep_features: float32"
    folder = execute(config_of(tiny_config, f"linear: null, {keep}"), tmp_path)
    assert (encoded, record(folder)["features_code_versions"]) == ([48], [])
    folder = execute(config_of(tiny_config, f"linear: null, collapse: true, {keep}"), tmp_path)
    assert encoded == [48]
    assert record(folder)["features_code_versions"] == [code_version()]
    folder = execute(config_of(tiny_config, f"{PROBE}, {keep}"), tmp_path)
    assert encoded == [48, 192]
    assert set(load_file(folder.features)) == {"train", "test"}


@pytest.mark.parametrize("changed", [{"data_version": "other"}, {"encoder_sha256": "other"}])
def test_features_of_another_origin_are_not_read(
    changed: dict[str, str], tiny_config: Tiny, tmp_path: Path, encoded: list[int]
) -> None:
    config = config_of(tiny_config, "linear: null, keep_features: float32")
    folder = execute(config, tmp_path)
    measured = record(folder)
    kept = read_features(folder.features)
    assert kept is not None
    with folder.lease(config) as lease:
        other = dataclasses.replace(kept, origin=dataclasses.replace(kept.origin, **changed))
        lease.write(folder.features.name, other.to_bytes())
    again = record(execute(config, tmp_path))
    assert encoded == [48, 48]
    assert again["measures"] == measured["measures"]
    found = read_features(folder.features)
    assert found is not None
    assert found.origin == kept.origin


def test_a_training_anew_leaves_no_features_of_the_old_encoder(tiny_config: Tiny, tmp_path: Path) -> None:
    folder = execute(config_of(tiny_config, "linear: null"), tmp_path)
    (folder.path / "trained.json").unlink()
    assert not execute(config_of(tiny_config, "linear: null, keep_features: null"), tmp_path).features.exists()


@pytest.mark.parametrize("content", [b"", b"no features", None])
def test_a_damaged_file_is_made_anew(
    content: bytes | None,
    tiny_config: Tiny,
    tmp_path: Path,
    encoded: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = config_of(tiny_config, "linear: null, keep_features: float32")
    folder = execute(config, tmp_path)
    record(folder)
    kept, whole = load_file(folder.features), folder.features.read_bytes()
    folder.features.write_bytes(whole[: len(whole) // 2] if content is None else content)
    execute(config, tmp_path)
    assert f"WARNING: {folder.features}: ignored" in capsys.readouterr().err
    assert encoded == [48, 48]
    assert np.array_equal(load_file(folder.features)["test"], kept["test"])


def test_what_float16_cannot_hold_stays_in_float32(
    tiny_config: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_encoder = features.Features._encode

    def large(self: features.Features, images: Any, epoch: int | None) -> Any:
        found = of_encoder(self, images, epoch)
        return found * 1e6 if len(found) == 192 else found  # of the training images

    monkeypatch.setattr(features.Features, "_encode", large)
    folder = execute(config_of(tiny_config, f"{PROBE}, keep_features: float16"), tmp_path)
    kept = load_file(folder.features)
    assert {name: found.dtype.name for name, found in kept.items()} == {"train": "float32", "test": "float16"}
    assert np.isfinite(kept["train"]).all()


def test_outcomes_of_test_images_add_up_to_the_measures(tiny_config: Tiny, tmp_path: Path) -> None:
    config = config_of(tiny_config, f"{PROBE}, knn: {{neighbors: 3}}, outliers: {{levels: {{genus: 1}}}}")
    folder = execute(config, tmp_path)
    outcomes, measures = folder.outcomes(config), record(folder)["measures"]
    assert outcomes is not None
    for column in ("linear_100", "knn", "rank1", "rank5", "mAP"):
        of_images = outcomes.of(column)
        assert of_images is not None
        assert 100 * np.nanmean(of_images) == pytest.approx(measures[column], abs=0.05 if column == "mAP" else 1e-9)
    of_images = outcomes.of("outliers_genus")
    assert of_images is not None
    assert len(of_images) - of_images.sum() == measures["outliers_genus"]
