from pathlib import Path

import pytest

from tests.data.photos import jpeg


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(60):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(jpeg(number))
    return tmp_path / "images"
