"""ContrastiveCrop: the crop of the authors' formula, with random numbers that depend on (seed, epoch, view, image)."""

import numpy as np
import pytest

from fgssl.views import crops

ROWS = np.arange(300)
BOXES = np.sort(np.random.default_rng(0).uniform(size=(300, 2, 2)), axis=1).reshape(300, 4).astype(np.float32)
"""Left, top, right and bottom of a box for each row."""


def authors_corner(
    width: int, height: int, crop_width: int, crop_height: int, box: list[float], drawn: list[float]
) -> tuple[int, int]:
    """Return the corner by the words of Peng et al. (2022): the center from the box, its range clamped to the image."""
    w0, h0, w1, h1 = box
    corner = []
    for length, size, first, last, number in ((width, crop_width, w0, w1, 0), (height, crop_height, h0, h1, 1)):
        begins = []
        for end in (first, last):
            begin = int(length * end) - size // 2
            if begin < 0:
                begin = 0
            if begin > length - size:
                begin = length - size
            begins.append(begin)
        corner.append(begins[0] + int((begins[1] - begins[0]) * drawn[number]))
    return corner[0], corner[1]


@pytest.mark.parametrize(("width", "height"), [(40, 30), (33, 64), (200, 20), (1, 1), (7, 300)])
@pytest.mark.parametrize("area", [(0.2, 1.0), (0.05, 0.25)])
def test_equals_the_authors_formula(width: int, height: int, area: tuple[float, float]) -> None:
    numbers = crops.crop_numbers(0, "training", 3, 1, ROWS)
    places = crops.places_around(BOXES, 0.6, 0, 3, 1, ROWS)
    for random, place in zip(numbers, places, strict=True):
        plain = crops.random_crop_box(width, height, random, area)
        size = (plain[2] - plain[0], plain[3] - plain[1])
        left, top, right, bottom = crops.moved_into(width, height, plain, place)
        assert (right - left, bottom - top) == size
        assert (left, top) == authors_corner(width, height, *size, place[:4].tolist(), place[4:].tolist())
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0, 4.0])
def test_places_are_of_the_beta_distribution(alpha: float) -> None:
    """Its mean is 1/2 and its variance 1/4 / (2 alpha + 1)."""
    rows = np.arange(20_000)
    places = crops.places_around(np.zeros((len(rows), 4), dtype=np.float32), alpha, 0, 0, 0, rows)[:, 4:]
    assert places.min() >= 0
    assert places.max() <= 1
    np.testing.assert_allclose(places.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(places.var(axis=0), 0.25 / (2 * alpha + 1), rtol=0.03)
    assert abs(np.cov(places.T, bias=True)).min() < 0.005


def test_a_third_of_the_arcsine_distribution_is_in_the_first_quarter() -> None:
    """The share of Beta(1/2, 1/2) below x is 2/pi arcsin(sqrt(x)): a third at 1/4."""
    rows = np.arange(20_000)
    places = crops.places_around(np.zeros((len(rows), 4), dtype=np.float32), 0.5, 0, 0, 0, rows)[:, 4:]
    np.testing.assert_allclose((places < 0.25).mean(axis=0), 1 / 3, atol=0.01)


def test_a_place_depends_on_seed_epoch_view_and_row_alone() -> None:
    one = crops.places_around(BOXES, 0.6, 0, 3, 1, ROWS)
    some = np.array([7, 2, 200])
    np.testing.assert_array_equal(crops.places_around(BOXES[some], 0.6, 0, 3, 1, some), one[some])
    for seed, epoch, view in ((1, 3, 1), (0, 4, 1), (0, 3, 0)):
        other = crops.places_around(BOXES, 0.6, seed, epoch, view, ROWS)
        assert (other[:, 4:] != one[:, 4:]).all()


def test_crops_meet_the_box_more_often_than_plain_ones() -> None:
    """A crop of a tenth of the image whose center lies in a box in the corner meets it; a plain one rarely does."""
    boxes = np.tile(np.array([0, 0, 0.2, 0.2], dtype=np.float32), (len(ROWS), 1))
    numbers, places = crops.crop_numbers(0, "training", 0, 0, ROWS), crops.places_around(boxes, 0.6, 0, 0, 0, ROWS)
    plain = [crops.random_crop_box(100, 100, one, (0.1, 0.1)) for one in numbers]
    around = [crops.moved_into(100, 100, one, place) for one, place in zip(plain, places, strict=True)]
    meets = [np.mean([left < 20 and top < 20 for left, top, _, _ in found]) for found in (plain, around)]
    assert meets[1] == 1
    assert meets[0] < 0.3
