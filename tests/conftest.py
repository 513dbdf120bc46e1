"""A config, a batch and a method that are so small that a step takes milliseconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fgssl.settings import config as configs
from fgssl.settings.config import Config

if TYPE_CHECKING:  # torch is imported where it is used: most of the tests do without it
    from fgssl.batch import Batch
    from fgssl.methods.method import Method

# Of this process, before it imports torch: on such tensors a second thread doubles the work and saves no time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Reports take seconds each; the tests of reports write theirs.
os.environ.setdefault("FGSSL_REPORT", "0")
# As in an activated environment: the commands that fgssl suggests are names then, not paths.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"

TINY: dict[str, Any] = {
    "data": {"toy": {"image_size": 16, "train_images_per_species": 8, "test_images_per_species": 2}},
    "views": {"image_size": 16},
    "encoder": {
        "name": "resnet18",
        "arguments": {
            "channels": [8, 8, 16, 16],
            "layers": [1, 1, 1, 1],
            "stem_type": "deep",
            "stem_width": 8,
            "output_stride": 16,
        },
        "batch_norm_group_size": 16,
    },
    "decoder": {"name": "light", "width": 16},
    "method": {
        "name": "synthesized",
        "base": {"name": "mocov2", "hidden_width": 16, "projection_width": 8, "queue_size": 128, "momentum": 0.9},
        "bank_size": 64,
    },
    "training": {"epochs": 2, "global_batch_size": 32},
    "evaluation": None,
    "resources": {"device": "cpu", "log_every_steps": 1},
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Distribute the tests of end_to_end one by one under `--dist loadfile`, since each takes minutes."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "end_to_end/" in nodeid else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def tiny_config() -> Callable[..., Config]:
    """Return `tiny_config("method.pair_weight=0", ...)`, a config of Synthesized Pairs on 192 toy images of 16 px."""

    def make(*overrides: str) -> Config:
        return configs.parse(configs.overridden(TINY, overrides), "test")

    return make


@pytest.fixture
def tiny_method(tiny_config: Callable[..., Config]) -> Callable[..., Method]:
    """Return `tiny_method("method.pair_weight=0", ...)`, the config's method with random weights, in training mode."""

    def make(*overrides: str) -> Method:
        from fgssl.encoders.freezing import train_unfrozen
        from fgssl.methods.build import RANDOM_START, build_method

        method = build_method(tiny_config(*overrides), RANDOM_START, classes=(24, 6))
        train_unfrozen(method)
        return method

    return make


SIMSIAM = "{name: simsiam, hidden_width: 32, projection_width: 16, predictor_width: 8}"
TWO_RECIPES = "views.recipes=[{crop_area: [0.25, 1.0], blur_probability: 1.0}, {solarize_probability: 0.2}]"
HEAD = "hidden_width: 16, projection_width: 8"
TWO_BY_TWO = "encoder.arguments.output_stride=8"
"""Override for a feature map of more than one position."""
MOCO = f"{{name: mocov2, {HEAD}, queue_size: 128, momentum: 0.9}}"
BYOL = f"{{name: byol, {HEAD}}}"
DINO = f"{{name: dino, prototypes: 24, prototypes_frozen_epochs: 0.5, {HEAD}}}"
EVERY_METHOD = {
    "cross_entropy": ("method={name: cross_entropy}",),
    "cross_entropy on a frozen encoder": ("method={name: cross_entropy}", "encoder.frozen=[all]"),
    "simclr": (f"method={{name: simclr, {HEAD}}}",),
    "supcon": (f"method={{name: supcon, {HEAD}}}",),
    "hcl": (f"method={{name: hcl, {HEAD}}}",),
    "hcl mass": (f"method={{name: hcl, weighting: mass, {HEAD}}}",),
    "hcl ignore": (f"method={{name: hcl, weighting: ignore, {HEAD}}}",),
    "hmlc": (f"method={{name: hmlc, {HEAD}}}",),
    "n_pairs": ("method={name: n_pairs, projection_width: 8}",),
    "mocov2": ("method.noise.variant=none",),
    "simsiam": (f"method={SIMSIAM}",),
    "byol": (f"method={BYOL}",),
    "dino": (f"method={DINO}", TWO_RECIPES),
    "dino with BatchNorm": (f"method={DINO}", "method.head_batch_norm=true", TWO_RECIPES),
    "barlow_twins": (f"method={{name: barlow_twins, {HEAD}}}",),
    "vicreg": (f"method={{name: vicreg, {HEAD}}}",),
    "lcr": (f"method={{name: lcr, parts: 4, base: {MOCO}}}", TWO_BY_TWO),
    "lcr on byol": (f"method={{name: lcr, parts: 4, gradient_sign: -1, base: {BYOL}}}", TWO_BY_TWO),
    "lcr on simsiam": (f"method={{name: lcr, parts: 4, base: {SIMSIAM}}}", TWO_BY_TWO),
    "sam_ssl_bilinear": (f"method={{name: sam_ssl_bilinear, parts: 4, base: {MOCO}}}", TWO_BY_TWO),
    "sam_ssl_bilinear on simsiam": (f"method={{name: sam_ssl_bilinear, parts: 4, base: {SIMSIAM}}}", TWO_BY_TWO),
    "lewel": (f"method={{name: lewel, base: {BYOL}}}", TWO_BY_TWO),
    "lewel on mocov2": (f"method={{name: lewel, base: {MOCO}}}", TWO_BY_TWO),
    "both": ("method.noise.threshold={quantile: 0.5}",),
    "random": ("method.noise.variant=random",),
    "attached": ("method.detach_pairs=false",),
    "no pairs": ("method.pair_weight=0",),
    "both on simsiam": ("method.noise.threshold={quantile: 0.5}", f"method.base={SIMSIAM}"),
    "both on byol": ("method.noise.threshold={quantile: 0.5}", f"method.base={BYOL}"),
    "both on dino": ("method.noise.threshold={quantile: 0.5}", f"method.base={DINO}", TWO_RECIPES),
    "decoder": ("method={name: decoder}",),
}
WHOLE_MATRIX = "FGSSL_WHOLE_MATRIX" in os.environ
"""Whether the tests over processes take every method on every engine, which takes more than twice as long."""
_VARIANTS = (
    *("hcl mass", "hcl ignore", "hmlc", "dino with BatchNorm", "barlow_twins", "lcr on byol", "lcr on simsiam"),
    *("sam_ssl_bilinear", "sam_ssl_bilinear on simsiam", "lewel", "random", "attached", "both on byol", "both on dino"),
)
SPREAD = [name for name in EVERY_METHOD if WHOLE_MATRIX or name not in _VARIANTS]
"""Methods that tests over processes take; without the whole matrix, one of each kind."""


@pytest.fixture(params=list(EVERY_METHOD.values()), ids=list(EVERY_METHOD))
def every_method(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return overrides of the tiny config, for each method in turn."""
    overrides: tuple[str, ...] = request.param
    return overrides


@pytest.fixture
def random_batch() -> Callable[..., Batch]:
    """Return `random_batch(step, images)`, two views and an original of noise, with 8 species of 2 genera."""

    def make(step: int = 0, images: int = 32) -> Batch:
        import torch

        from fgssl.batch import Batch

        generator = torch.Generator().manual_seed(step)
        first, second, original = (torch.randn(images, 3, 16, 16, generator=generator) for _ in range(3))
        species = torch.arange(images) % 8
        labels = torch.stack([species, species // 4], dim=1)
        return Batch(step, torch.arange(images) + images * step, labels, (first, second), original)

    return make
