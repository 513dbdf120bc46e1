"""Addition of a dataset source: one module and one line."""

import sys
from pathlib import Path

import pytest

from fgssl import registries
from fgssl.__main__ import main
from fgssl.data.shards import ShardedSplit
from fgssl.data.sources import SOURCES, how_to_pack

MODULE = '''
from functools import partial

from fgssl.data.source import Sample, Source, SourceDataset
from fgssl.settings.declare import PositiveInt, settings
from fgssl.store.manifest import Level


@settings
class StripesSettings:
    width: PositiveInt = 2
    """Width of a stripe, pixels."""


def read(options):
    def sample(number):
        import io
        import numpy as np
        from PIL import Image

        pixels = np.zeros((8, 8, 3), dtype=np.uint8)
        pixels[:, : options.width * (1 + number % 3)] = 20 * number
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return Sample(buffer.getvalue(), (number % 2,), f"stripe-{number}")

    splits = {"train": range(6), "test": range(6, 10)}
    return SourceDataset(
        name="stripes",
        source="stripes",
        arguments={"width": options.width},
        levels=(Level("parity", ("even", "odd")),),
        splits={split: [partial(sample, number) for number in numbers] for split, numbers in splits.items()},
        drawn=True,
    )


SOURCE = Source(
    name="stripes",
    summary="ten striped images",
    settings=StripesSettings,
    paths=(),
    levels=("parity",),
    how_to_get="They are generated; nothing is to be downloaded.",
    read=read,
)
'''


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "stripes", "stripes_of_a_user:SOURCE")
    monkeypatch.delitem(sys.modules, "stripes_of_a_user", raising=False)
    registries._resolve.cache_clear()  # each test has a module of its own


@pytest.mark.usefixtures("stripes")
def test_it_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "stripes", str(tmp_path / "shards"), "width=1"]) == 0
    assert "dataset stripes, 2 x parity" in capsys.readouterr().out
    train, test = (ShardedSplit(tmp_path / "shards", split) for split in ("train", "test"))
    assert (len(train), len(test), train.manifest.source) == (6, 4, "stripes")
    assert train.manifest.arguments == {"width": 1}
    assert main(["pack", "--verify", str(tmp_path / "shards")]) == 0
    assert main(["pack", "stripes", str(tmp_path / "other"), "widht=1"]) == 2
    assert "did you mean 'width'" in capsys.readouterr().err


@pytest.mark.usefixtures("stripes")
def test_help_and_messages_know_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["pack", "--help"])
    assert "stripes DST" in (listed := capsys.readouterr().out)
    assert "ten striped images" in listed
    main(["pack", "stripes", "--help"])
    shown = capsys.readouterr().out
    for part in ("stripes [OPTIONS] DST", "width=2", "Width of a stripe, pixels.", "parity", "They are generated"):
        assert part in shown
    assert how_to_pack("stripes", "shards") == (
        "pack it with `fgssl pack stripes shards` (`fgssl pack stripes --help` describes how to get the images)"
    )
    assert main(["pack", "stripe", "shards"]) == 2
    assert "did you mean 'stripes'" in capsys.readouterr().err
