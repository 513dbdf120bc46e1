"""Outcomes of test images: what they add up to, the file, and damaged files."""

from pathlib import Path

import numpy as np
import pytest

from fgssl.store.outcomes import RIGHT, Outcomes, read_outcomes

LABELS = np.array([0, 1, 2, 2])


def outcomes() -> Outcomes:
    found = Outcomes()
    found.classified("linear_100", np.array([0, 2, 2, 70_000]), LABELS)
    found.ranked(np.array([1, 4, 0, 70_000]), np.array([1.0, 0.3, 0.0, 0.1]))
    found.ranked(np.array([6, 5, 0, 0]), np.array([0.2, 0.3, 0.0, 0.0]), "_across")
    return found


def test_each_column_is_the_mean_over_images() -> None:
    found = outcomes()
    assert found.mistaken_for["linear_100"].tolist() == [RIGHT, 2, RIGHT, 70_000]
    for column, expected in {
        "linear_100": [1, 0, 1, 0],
        "rank1": [1, 0, np.nan, 0],
        "rank5": [1, 1, np.nan, 0],
        "rank5_across": [0, 1, np.nan, np.nan],
        "mAP_across": [0.2, 0.3, np.nan, np.nan],
    }.items():
        of_images = found.of(column)
        assert of_images is not None
        assert of_images.tolist() == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert found.of("linear_100_balanced") is None
    assert found.of("rank1_beyond") is None


def test_the_file_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    random, many = np.random.default_rng(0), Outcomes()
    labels = random.integers(200, size=5794)  # as CUB-200-2011
    for column in ("linear_100", "linear_50", "linear_20", "knn", "outliers_species"):
        many.classified(column, np.where(random.random(5794) < 0.7, labels, random.integers(200, size=5794)), labels)
    many.ranked(random.geometric(0.5, size=5794), random.random(5794))
    file = tmp_path / "outcomes-0.npz"
    file.write_bytes(many.to_bytes())
    assert file.read_bytes() == many.to_bytes()
    assert file.stat().st_size < 50_000
    read = read_outcomes(file)
    assert read is not None
    for column in ("linear_20", "rank5", "mAP"):
        np.testing.assert_array_equal(read.of(column), many.of(column))


def test_no_damaged_byte_ends_the_reader(tmp_path: Path) -> None:
    file, whole = tmp_path / "outcomes-0.npz", outcomes().to_bytes()
    for place in range(0, len(whole), 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        read_outcomes(file)  # None, or all that is not damaged


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", outcomes().to_bytes()[:300]])
def test_a_damaged_file_is_ignored_with_a_warning(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "outcomes-0.npz"
    assert read_outcomes(file) is None
    file.write_bytes(content)
    assert read_outcomes(file) is None
    assert f"WARNING: {file}: ignored, since its outcomes cannot be read" in capsys.readouterr().err
