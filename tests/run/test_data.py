from collections.abc import Callable
from pathlib import Path

import pytest

from fgssl.data import decoded_cache
from fgssl.data.location import ensure_toy
from fgssl.run.data import open_splits, open_train
from fgssl.run.execution import execute
from fgssl.settings import fingerprints
from fgssl.settings.config import Config

TinyConfig = Callable[..., Config]
UNMEASURED = ("method.noise.variant=none", "training.epochs=1", "resources.loader_threads=2")


@pytest.fixture
def nearby(tmp_path: Path, tiny_config: TinyConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return overrides with which a run copies its shards to a disk of the node, and keeps its pixels in memory."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(decoded_cache, "_SHARED_MEMORY", tmp_path / "shm")
    monkeypatch.setenv("FGSSL_TEST_DISK", str(tmp_path / "disk"))
    shards = ensure_toy(tiny_config().data, tmp_path)
    return (f"data.folder={shards}", "data.stage=$FGSSL_TEST_DISK", "data.cache=memory")


def test_every_process_reads_the_copy_and_shares_the_pixels(
    tiny_config: TinyConfig, tmp_path: Path, nearby: tuple[str, ...]
) -> None:
    config = tiny_config(*nearby, "evaluation={}")
    (train, test), other = open_splits(config, tmp_path), open_train(config, tmp_path)
    assert test is not None
    assert {train.folder.parent, test.folder.parent, other.folder.parent} == {tmp_path / "disk"}
    assert train.version == other.version
    (cache,) = (tmp_path / "shm").iterdir()
    before = cache.stat().st_blocks
    train.pixels(0)
    test.pixels(0)
    after = cache.stat().st_blocks
    other.pixels(0)
    assert before < after == cache.stat().st_blocks


def test_results_do_not_depend_on_where_images_are_read(
    tiny_config: TinyConfig, tmp_path: Path, nearby: tuple[str, ...]
) -> None:
    plain, config = tiny_config(*UNMEASURED), tiny_config(*UNMEASURED, *nearby)
    assert fingerprints.run_name(config) == fingerprints.run_name(plain)
    weights = [
        (execute(one, tmp_path / out).path / "encoder.safetensors").read_bytes()
        for one, out in ((plain, "plain"), (config, "nearby"))
    ]
    assert weights[0] == weights[1]
    assert list((tmp_path / "disk").glob("*/train-00000.h5"))
    assert list((tmp_path / "shm").iterdir()) == []
