"""Maps of features: the same each time, computed once, started from another, and class centroids beside them."""

from pathlib import Path

import numpy as np
import pytest

from fgssl.evaluation.centroids import outliers
from fgssl.report.centroids import nearest_classes
from fgssl.report.figures.records import NotDrawnError
from fgssl.report.map import LIBRARIES, _computed, feature_map, principal_components

CENTERS = np.random.default_rng(0).normal(size=(3, 12))
LABELS = np.arange(60) % 3
FEATURES = (CENTERS[LABELS] + 0.1 * np.random.default_rng(1).normal(size=(60, 12))).astype(np.float32)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_map_keeps_clusters_apart_and_is_the_same_each_time(library: str) -> None:
    pytest.importorskip(LIBRARIES[library], reason=f"needs {library}")
    points = principal_components(FEATURES)
    first, second = (_computed(library, points, None) for _ in range(2))
    assert first.shape == (60, 2)
    assert np.array_equal(first, second)
    centers = np.stack([first[label == LABELS].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(first[:, None] - centers, axis=2).argmin(axis=1)
    assert (nearest == LABELS).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_map_stays_near_the_one_that_it_starts_from(library: str) -> None:
    pytest.importorskip(LIBRARIES[library], reason=f"needs {library}")
    first = _computed(library, principal_components(FEATURES), None)
    noisy = FEATURES + 0.02 * np.random.default_rng(2).normal(size=FEATURES.shape)
    turned = first @ np.array([[0, 1], [-1, 0]], dtype=np.float32)
    for start in (first, turned):
        found = _computed(library, principal_components(noisy), start)
        correlation = [np.corrcoef(found[:, axis], start[:, axis])[0, 1] for axis in (0, 1)]
        assert min(correlation) > 0.9


def test_a_map_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    first = feature_map(tmp_path, FEATURES)
    other = feature_map(tmp_path, FEATURES, start=first)
    files = sorted(tmp_path.glob("map-*.npy"))
    assert len(files) == 2
    monkeypatch.setattr("fgssl.report.map.LIBRARIES", dict.fromkeys(LIBRARIES, "a_module_that_is_missing"))
    assert np.array_equal(feature_map(tmp_path, FEATURES), first)
    assert np.array_equal(feature_map(tmp_path, FEATURES, start=first), other)
    monkeypatch.undo()
    for file in files:
        file.write_bytes(b"damaged")
    assert np.array_equal(feature_map(tmp_path, FEATURES), first)
    assert "the map is computed anew" in capsys.readouterr().err


def test_a_damaged_map_is_computed_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    first = feature_map(tmp_path, FEATURES)
    (file,) = tmp_path.glob("map-*.npy")
    file.write_bytes(file.read_bytes().replace(b"(60, 2)", b"(60, 2 "))  # the header is no Python any more
    assert np.array_equal(feature_map(tmp_path, FEATURES), first)
    assert "the map is computed anew" in capsys.readouterr().err


def test_a_map_needs_some_images(tmp_path: Path) -> None:
    with pytest.raises(NotDrawnError, match="a map needs 10 test images or more"):
        feature_map(tmp_path, FEATURES[:9])


def test_components_hold_the_distances_of_unit_rows() -> None:
    units = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    found = principal_components(FEATURES)
    assert found.shape == (60, 12)
    expected = np.linalg.norm(units[:, None] - units, axis=2)
    assert np.allclose(np.linalg.norm(found[:, None] - found, axis=2), expected, atol=1e-6)
    assert (np.diff(found.std(axis=0)) <= 1e-9).all()


@pytest.mark.parametrize("seed", range(5))
def test_nearest_classes_are_those_of_the_measure(seed: int) -> None:
    generator = np.random.default_rng(seed)
    train, test = generator.normal(size=(2, 40, 5)).astype(np.float16)
    train[0] = 0
    labels, truth = generator.integers(6, size=(2, 40))
    found = nearest_classes(train, labels, test)
    assert int((found != truth).sum()) == outliers(train.astype(np.float32), labels, test.astype(np.float32), truth)
