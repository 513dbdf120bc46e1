"""Content of a page: what is refused, and what stays of an embedding of fewer images."""

from dataclasses import replace

import numpy as np
import pytest

from fgssl.report.page.content import NOT_SHOWN, neighborhood_jaccard
from tests.report.page.toy import toy_embedding


def test_jaccard_of_neighborhoods() -> None:
    first = np.array([[1, 2, 3], [0, 2, 3], [4, 5, 6]])
    second = np.array([[3, 2, 1], [0, 5, 6], [7, 8, 9]])
    assert neighborhood_jaccard(first, second).tolist() == pytest.approx([1, 1 / 5, 0])
    assert neighborhood_jaccard(first, second, count=1).tolist() == [0, 1, 0]


def test_neighbors_that_are_left_out_are_marked() -> None:
    whole = toy_embedding()
    rows = np.arange(0, 300, 7)
    part = whole.take(rows)
    assert part.ids == whole.ids[::7]
    assert part.jaccard is not None
    assert whole.jaccard is not None
    assert np.array_equal(part.jaccard, whole.jaccard[::7])
    for before, after in zip(whole.maps, part.maps, strict=True):
        for place, row in enumerate(rows):
            for old, new in zip(before.neighbors[row], after.neighbors[place], strict=True):
                assert new == (old // 7 if old % 7 == 0 else NOT_SHOWN)
    again = part.take(np.arange(len(rows)))
    assert all(np.array_equal(one.neighbors, two.neighbors) for one, two in zip(part.maps, again.maps, strict=True))


def test_arrays_that_do_not_fit_are_refused() -> None:
    whole = toy_embedding()
    with pytest.raises(ValueError, match="another length than the 300 ids"):
        replace(whole, attributes={"height": np.zeros(299)})
    with pytest.raises(ValueError, match="two and their jaccard"):
        replace(whole, jaccard=None)
    broken = replace(whole.maps[0], points=np.full((300, 2), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        replace(whole, maps=(broken, whole.maps[1]))
