"""Finished sweeps with features and images, and a check that nothing in a figure overlaps."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgssl.data.location import ensure_toy
from fgssl.data.shards import ShardedSplit
from fgssl.encoders.weights import weights_bytes
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.settings import config as configs
from fgssl.store.features import KeptFeatures, Origin
from tests.report.conftest import Out

FEW = {"toy": {"train_images_per_species": 2, "test_images_per_species": 2, "image_size": 16}}
DIMENSIONS = 8
ENCODER = {
    "name": "resnet18",
    "arguments": {"channels": [8, 8, 8, DIMENSIONS], "layers": [1, 1, 1, 1], "output_stride": 8},
    "batch_norm_group_size": 2,
}


@pytest.fixture(autouse=True)
def _matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra fgssl[report]")


class Embedded:
    """Sweep whose runs keep features of a small toy set: the genus, the species and noise, in different dimensions."""

    def __init__(self, out: Out) -> None:
        self.out = out
        for cell in out.content["cells"]:
            for run in cell["runs"]:
                config = run["config"]
                config["data"] |= FEW
                config["encoder"] = ENCODER
                if config["method"]["name"] == "synthesized":
                    config["decoder"] = {"name": "light", "width": 16}
        out.write_plan()
        config = configs.parse(out.planned("base", 0)["config"], "test")
        self.shards = ensure_toy(config.data, out.path / "data")
        self.images = {split: ShardedSplit(self.shards, split) for split in ("train", "test")}

    def features(self, split: str, noise: float, seed: int = 0) -> NDArray[np.float32]:
        labels = self.images[split].labels
        generator = np.random.default_rng([seed, split == "test"])
        rows = generator.normal(scale=noise, size=(len(labels), DIMENSIONS)).astype(np.float32)
        rows[np.arange(len(labels)), labels[:, 1]] += 1  # 6 genera
        rows[:, 6] += labels[:, 0] / 24
        return rows

    def finish(
        self,
        cell: str,
        seed: int,
        given: Mapping[str, Any] | None = None,
        noise: float = 0.3,
        linear_100: float = 50.0,
    ) -> None:
        """Finish a run, with features of both splits, or those that are given by split."""
        self.out.finish(cell, seed, linear_100, data_version=self.images["train"].version)
        splits = {split: self.features(split, noise, seed) for split in self.images} | dict(given or {})
        kept = KeptFeatures(splits=splits, encoded_by=dict.fromkeys(splits, "c1"), origin=Origin(data_version="d"))
        (self.out.folder(cell, seed) / "features.safetensors").write_bytes(kept.to_bytes())

    def add_weights(self, cell: str, seed: int) -> None:
        """Write the random networks that the training of a finished run would have started from."""
        config = configs.parse(self.out.planned(cell, seed)["config"], "test")
        for name, network in build_method(config, RANDOM_START, [24, 6]).exports().items():
            (self.out.folder(cell, seed) / f"{name}.safetensors").write_bytes(weights_bytes(network))


@pytest.fixture
def embedded(out: Out) -> Embedded:
    return Embedded(out)


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[[Any], None]:
    """Return a check that all text lies inside of the figure, and that no text or legend covers another."""

    def check(figure: Any) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.text import Text

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        width, height = figure.get_size_inches() * figure.dpi
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        shown = {text: text.get_window_extent(renderer) for text in texts}
        # Axes keep labels of ticks outside of their limits, which are not drawn.
        drawn = {id(label) for axes in figure.axes for label in _tick_labels(axes)}
        ticks = {id(text) for axes in figure.axes for text in [*axes.xaxis.findobj(Text), *axes.yaxis.findobj(Text)]}
        names = {id(axes.xaxis.label) for axes in figure.axes} | {id(axes.yaxis.label) for axes in figure.axes}
        hidden = {id(text) for axes in figure.axes if not axes.axison for text in axes.xaxis.findobj(Text)}
        hidden |= {id(text) for axes in figure.axes if not axes.axison for text in axes.yaxis.findobj(Text)}
        boxes = {
            text.get_text(): box
            for text, box in shown.items()
            if id(text) not in hidden and (id(text) not in ticks or id(text) in drawn | names)
        }
        for text, box in boxes.items():
            assert box.x0 >= -1.5, text
            assert box.y0 >= -1.5, text
            assert box.x1 <= width + 1.5, text
            assert box.y1 <= height + 1.5, text
        for (text, box), (other, of_other) in itertools.combinations(boxes.items(), 2):
            across = min(box.x1, of_other.x1) - max(box.x0, of_other.x0)
            down = min(box.y1, of_other.y1) - max(box.y0, of_other.y0)
            rotated = 12 if len(text) > 6 and len(other) > 6 else 2  # boxes of slanted labels overlap, not they
            assert min(across, down) <= rotated, (text, other)

    return check


def _tick_labels(axes: Any) -> list[Any]:
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        found += [tick.label1 for tick in axis.get_major_ticks() if low - slack <= tick.get_loc() <= high + slack]
    return found
