"""Figures of features: spectrum, map and look-alikes."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fgssl.evaluation.centroids import outliers
from fgssl.report.figures import draw
from fgssl.report.figures.class_colors import OTHERS, class_colors
from fgssl.report.figures.lookalikes import nearest_pairs
from fgssl.report.figures.records import NotDrawnError, Records
from fgssl.report.figures.spectrum import between_classes, relative_std
from fgssl.store.features import KeptFeatures
from tests.report.conftest import Out
from tests.report.figures.conftest import Embedded

OF_FEATURES = ("spectrum", "tsne", "lookalikes", "confusion")
OF_NETWORKS = ("attention", "reconstructions", "gate")


@pytest.mark.parametrize("name", [*OF_FEATURES, *OF_NETWORKS])
def test_features_and_images_must_be_there(out: Out, embedded: Embedded, name: str) -> None:
    reason = "no run that is done keeps features of images that are there"
    with pytest.raises(NotDrawnError, match=reason):
        draw(name, out.path)
    out.finish("base", 0, 50.0, data_version=embedded.images["train"].version)  # without features
    out.finish("base", 1, 50.0, data_version="of other data")
    shutil.copy(embedded.shards / "manifest.json", out.folder("base", 1) / "features.safetensors")
    with pytest.raises(NotDrawnError, match=reason):
        draw(name, out.path)
    embedded.finish("base", 0)
    shutil.rmtree(embedded.shards)
    with pytest.raises(NotDrawnError, match=reason):
        draw(name, out.path)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_features_must_be_numbers(out: Out, embedded: Embedded, name: str) -> None:
    broken = {split: embedded.features(split, 0.3) for split in ("train", "test")}
    for features in broken.values():
        features[3, 3] = np.nan
    embedded.finish("base", 0, broken)
    with pytest.raises(NotDrawnError, match="holds NaN or infinity in the split"):
        draw(name, out.path)


def test_spectrum_separates_dimensions(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    embedded.finish("base", 0)
    embedded.finish("sigma=0.1", 1, noise=1.0)
    figure = draw("spectrum", out.path)
    spectrum, _, _, separation = figure.axes
    assert len(spectrum.lines) == 2
    assert sorted(spectrum.lines[0].get_ydata()) == pytest.approx(
        sorted(relative_std(embedded.features("test", 0.3).astype(np.float64)))
    )
    assert separation.get_ylabel() == "share between classes"
    tidy(figure)


def test_spectrum_leaves_constant_dimensions_out(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    features = embedded.features("test", 0.3)
    features[:, :2] = 4.0
    embedded.finish("base", 0, {"test": features})
    figure = draw("spectrum", out.path)
    assert len(figure.axes[0].lines[0].get_ydata()) == 6
    assert "2 of 8 dimensions are constant" in " ".join(figure.texts[0].get_text().split())
    tidy(figure)
    embedded.finish("base", 1, {"test": np.ones_like(features)})
    (out.folder("base", 0) / "features.safetensors").unlink()
    with pytest.raises(NotDrawnError, match="base: fewer than 4 dimensions of the features vary"):
        draw("spectrum", out.path)


def test_variance_between_classes_equals_a_slow_sum() -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(30, 3)), generator.integers(4, size=30)
    features[:, 2] = 1.0
    expected = []
    for column in features.T:
        means = {label: column[labels == label].mean() for label in labels}
        between = sum((means[label] - column.mean()) ** 2 for label in labels)
        total = sum((value - column.mean()) ** 2 for value in column)
        expected.append(between / total if total else 0.0)
    assert between_classes(features, labels) == pytest.approx(expected)


def test_map_counts_the_outliers_of_the_measure(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    pytest.importorskip("sklearn", reason="maps need openTSNE or scikit-learn")
    embedded.finish("base", 0)
    embedded.finish("sigma=0.5", 2, noise=2.0)
    figure = draw("tsne", out.path)
    for axes, noise, seed in zip(figure.axes, (0.3, 2.0), (0, 2), strict=True):
        train, test = (embedded.features(split, noise, seed) for split in ("train", "test"))
        labels = (embedded.images[split].labels[:, 1] for split in ("train", "test"))
        count = outliers(train, next(labels), test, next(labels))
        assert f"\n{count} of 48 outliers" in axes.get_title(loc="left")
        inside, crosses = axes.collections
        assert len(crosses.get_offsets()) == count
        assert len(inside.get_offsets()) == 48 - count
    tidy(figure)


def test_maps_need_some_images(out: Out, embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgssl.report.figures.tsne.FEWEST", 49)
    embedded.finish("base", 0)
    with pytest.raises(NotDrawnError, match="a map needs 49 test images or more"):
        draw("tsne", out.path)


def test_look_alikes_are_of_two_genera(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    labels = {split: embedded.images[split].labels for split in ("train", "test")}
    genus = dict(labels["train"].tolist())
    one, other = 0, next(label for label in genus if genus[label] != genus[0])
    features = {}
    for split, of_split in labels.items():
        rows = np.eye(24, dtype=np.float32)[of_split[:, 0]]
        rows[of_split[:, 0] == one, other] = 0.9
        features[split] = rows
    embedded.finish("base", 0, features)
    pairs = nearest_pairs(Records(out.path)["embeddings"][0])
    assert pairs[0].classes == (one, other)
    assert pairs[0].cosine == pytest.approx(0.9 / np.hypot(1, 0.9))
    assert len({label for pair in pairs for label in pair.classes}) == 2 * len(pairs)
    for pair in pairs:
        assert genus[pair.classes[0]] != genus[pair.classes[1]]
        for label, images in zip(pair.classes, pair.images, strict=True):
            assert set(labels["test"][images, 0]) == {label}
    tidy(draw("lookalikes", out.path))


def test_look_alikes_need_two_levels(out: Out, embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.finish("base", 0)
    one_level = embedded.images["test"].levels[:1]
    monkeypatch.setattr("fgssl.data.shards.ShardedSplit.levels", property(lambda _: one_level))
    monkeypatch.setattr("fgssl.data.shards.ShardedSplit._read_table", lambda *_: None)
    with pytest.raises(NotDrawnError, match="fewer than two levels of labels"):
        draw("lookalikes", out.path)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_images_must_have_labels(out: Out, embedded: Embedded, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.finish("base", 0)
    monkeypatch.setattr("fgssl.data.shards.ShardedSplit.levels", property(lambda _: []))
    monkeypatch.setattr("fgssl.data.shards.ShardedSplit._read_table", lambda *_: None)
    with pytest.raises(NotDrawnError, match=r"the test images have no labels|fewer than two levels of labels"):
        draw(name, out.path)


@pytest.mark.parametrize("name", ["ablation", "confusion"])
def test_the_table_must_show_a_metric(out: Out, embedded: Embedded, name: str) -> None:
    out.measure((), {}, [])
    embedded.finish("base", 0)
    with pytest.raises(NotDrawnError, match="the table shows no metric"):
        draw(name, out.path)


def test_two_hundred_classes_share_a_legend() -> None:
    labels = np.repeat(np.arange(200), np.arange(200, 0, -1))
    colors, legend = class_colors(labels, [f"class {number}" for number in range(200)])
    assert list(legend) == [*(f"class {number}" for number in range(6)), "194 others"]
    assert colors[0] == legend["class 0"]
    assert colors[-1] == OTHERS
    assert len(set(legend.values())) == 7


def test_classes_of_one_name_are_kept_apart() -> None:
    _, legend = class_colors(np.array([0, 1]), ["same", "same"])
    assert list(legend) == ["same", "same (1)"]


def test_kept_features_of_another_length_are_not_used(out: Out, embedded: Embedded) -> None:
    embedded.finish("base", 0, {"test": np.ones((3, 8), np.float32)})
    assert isinstance(Records(out.path)["features"]["base", 0], KeptFeatures)
    with pytest.raises(NotDrawnError, match="does not hold the features of the split test"):
        draw("spectrum", out.path)
