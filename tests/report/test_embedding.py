"""Neighborhoods of an embedding against slow loops and scikit-learn."""

from typing import Any

import numpy as np
import pytest

from fgssl.evaluation.centroids import outliers
from fgssl.report.centroids import unit_rows
from fgssl.report.embedding import NEIGHBORS, embed, neighborhoods
from fgssl.report.figures.records import Records
from tests.report.conftest import Out
from tests.report.figures.conftest import Embedded


def test_neighbors_and_trustworthiness_equal_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold = pytest.importorskip("sklearn.manifold")
    monkeypatch.setattr("fgssl.report.embedding.IMAGES_AT_ONCE", 17)
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 6)).astype(np.float32)
    points = (features[:, :2] + random.normal(scale=0.3, size=(80, 2))).astype(np.float32)
    neighbors, distances, trustworthiness = neighborhoods(features, points)
    cosine = unit_rows(features) @ unit_rows(features).T
    np.fill_diagonal(cosine, -np.inf)
    np.testing.assert_array_equal(neighbors, np.argsort(-cosine, axis=1, kind="stable")[:, :NEIGHBORS])
    np.testing.assert_allclose(distances, 1 - np.take_along_axis(cosine, neighbors, 1), atol=1e-6)
    expected = manifold.trustworthiness(features, points, n_neighbors=NEIGHBORS, metric="cosine")
    assert trustworthiness == pytest.approx(expected, abs=1e-9)
    assert trustworthiness < 0.99


@pytest.mark.parametrize("measured", [None, {"levels": {"genus": 1}, "centroids": "test"}])
def test_outliers_are_those_of_the_measure(out: Out, measured: dict[str, Any] | None) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    embedded = Embedded(out)
    out.measure(("base",), {"outliers": measured}, ["linear_100"])
    out.measured = {"outliers_genus": 0.0} if measured else {}
    embedded.finish("base", 0, noise=1.0)
    found = embed(Records(out.path)["embeddings"], 10_000_000).maps[0].outliers
    known = measured["centroids"] if measured else "train"
    centroids, test = (embedded.features(split, 1.0) for split in (known, "test"))
    labels = {split: images.labels for split, images in embedded.images.items()}
    expected = [outliers(centroids, labels[known][:, level], test, labels["test"][:, level]) for level in (0, 1)]
    assert min(expected) > 0
    assert found.sum(axis=0).tolist() == ([0, expected[1]] if measured else expected)


def test_neighbors_are_sought_among_the_images_of_the_map(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    monkeypatch.setattr("fgssl.report.figures.tsne.MOST_IMAGES", 20)
    Embedded(out).finish("base", 0)
    found = embed(Records(out.path)["embeddings"], 10_000_000)
    assert found.left_out.startswith("The map holds 20 of the 48 test images")
    assert found.left_out.endswith("neighbors are sought among them.")
    assert found.maps[0].neighbors.max() < 20


def test_few_images_have_few_neighbors() -> None:
    neighbors, distances, trustworthiness = neighborhoods(np.eye(5), np.eye(5, 2, dtype=np.float32))
    assert neighbors.shape == distances.shape == (5, 2)
    assert 0 <= trustworthiness <= 1
