"""Confusion within genera: counts against a slow loop, and which genera, classes and cells are shown."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fgssl.report.figures import confusion, draw
from fgssl.report.figures.confusion import confusions, most_confused
from fgssl.report.figures.records import NotDrawnError, Records
from tests.report.conftest import Out
from tests.report.figures.conftest import Embedded


def test_counts_equal_a_slow_loop(out: Out, embedded: Embedded) -> None:
    embedded.finish("base", 0, noise=1.0)
    found = confusions(Records(out.path)["embeddings"][0])
    train, test = (embedded.features(split, 1.0).astype(np.float64) for split in ("train", "test"))
    labels = {split: embedded.images[split].labels[:, 0] for split in ("train", "test")}
    expected = np.zeros((24, 24), dtype=int)
    centers = []
    for label in range(24):
        rows = [
            row / np.linalg.norm(row) for row, of_row in zip(train, labels["train"], strict=True) if of_row == label
        ]
        mean = np.mean(rows, axis=0)
        centers.append(mean / np.linalg.norm(mean))
    for row, label in zip(test, labels["test"], strict=True):
        expected[label, int(np.argmax([center @ row for center in centers]))] += 1
    assert (found == expected).all()


def test_the_most_confused_groups_and_classes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "CLASSES", 3)
    coarse = np.array([0, 0, 1, 1, 1, 1, 2, 3, 3, -1])
    counts = np.diag(np.full(10, 9))
    counts[0, 7] = 9  # of another group
    counts[2, 5], counts[5, 3], counts[8, 7] = 3, 1, 2
    found = most_confused(counts, coarse)
    assert list(found) == [1, 3]
    assert found[1].tolist() == [2, 3, 5]
    assert found[3].tolist() == [7, 8]
    assert most_confused(counts, np.arange(10)) == {}


def test_baseline_and_best_cell_are_compared(out: Out, embedded: Embedded, tidy: Callable[[Any], None]) -> None:
    embedded.finish("base", 0, noise=1.0)
    embedded.finish("base", 1, noise=1.0)
    embedded.finish("sigma=0.1", 0, noise=0.2, linear_100=40.0)
    embedded.finish("sigma=0.5", 0, noise=0.1, linear_100=60.0)
    figure = draw("confusion", out.path)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split("\n")[0] for title in titles] == ["base", "base", "sigma=0.5", "sigma=0.5"]
    counts = np.sum([confusions(one) for one in Records(out.path)["embeddings"] if one.cell == "base"], axis=0)
    genus = embedded.images["test"].levels[1].classes.index(titles[0].split("\n")[1])
    species = np.unique(embedded.images["test"].labels[embedded.images["test"].labels[:, 1] == genus, 0])
    percent = np.asarray(figure.axes[0].images[0].get_array())
    assert percent[:, :4] == pytest.approx(100 * counts[np.ix_(species, species)] / 4)  # two images, two seeds
    assert percent.sum(axis=1) == pytest.approx(100)
    tidy(figure)


def test_best_is_lowest_if_lower_is_better(out: Out, embedded: Embedded) -> None:
    out.measure(("base", "sigma=0.1", "sigma=0.5"), {"outliers": {"levels": {"genus": 1}}}, ["outliers_genus"])
    for cell, outliers in (("base", 3.0), ("sigma=0.1", 1.0), ("sigma=0.5", 2.0)):
        out.measured = {"outliers_genus": outliers}
        embedded.finish(cell, 0)
    titles = [axes.get_title(loc="left") for axes in draw("confusion", out.path).axes]
    assert titles[-1].startswith("sigma=0.1\n")


def test_without_a_baseline_the_best_two_cells_are_compared(out: Out, embedded: Embedded) -> None:
    out.content["baseline"] = None
    out.write_plan()
    for cell, value in (("base", 10.0), ("sigma=0.1", 40.0), ("sigma=0.5", 60.0)):
        embedded.finish(cell, 0, linear_100=value)
    figure = draw("confusion", out.path)
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert list(dict.fromkeys(titles)) == ["sigma=0.5", "sigma=0.1"]
    assert " ".join(figure.texts[0].get_text().split()).endswith("The best cells by linear_100, one seed.")


def test_a_group_of_one_class_has_no_confusion(out: Out, embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.finish("base", 0)
    monkeypatch.setattr(confusion, "_coarse", lambda one: np.arange(24))
    with pytest.raises(NotDrawnError, match="no genus has test images of two species"):
        draw("confusion", out.path)
