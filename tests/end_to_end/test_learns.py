"""Every method beats its untrained encoder on the embedded images, in linear probe and rank-1.

Labels are genera, since species differ in marks so small that minutes of training without labels learn little of them,
and random convolutions already recognize some. Without FGSSL_WHOLE_MATRIX=1 one method of each kind is trained.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fgssl.run.execution import execute
from fgssl.settings import config as configs
from fgssl.settings.layers import Layer
from tests.conftest import WHOLE_MATRIX

pytestmark = pytest.mark.slow

SEEDS = (0, 1)
SETTINGS: dict[str, Any] = {
    # Mild views: on so few images little training must do.
    "views": {
        "image_size": 32,
        "crop_area": [0.5, 1.0],
        "contrast": 0.3,
        "saturation": 0.2,
        "hue": 0.02,
        "gray_probability": 0.0,
        "blur_probability": 0.0,
    },
    "encoder": {
        "name": "resnet18",
        "arguments": {
            "channels": [16, 32, 64, 128],
            "layers": [1, 1, 1, 1],
            "stem_type": "deep",
            "stem_width": 8,
            "output_stride": 16,
        },
    },
    "training": {"epochs": 8, "global_batch_size": 64, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
    "evaluation": {"label_level": 1, "linear": {"label_fractions": [1.0], "learning_rates": [0.1, 1.0, 10.0]}},
    "resources": {"device": "cpu"},
}
HEAD = {"hidden_width": 128, "projection_width": 64}
MOCO = {"name": "mocov2", **HEAD, "queue_size": 512, "momentum": 0.99}
SIMSIAM = {"name": "simsiam", "hidden_width": 128, "projection_width": 128, "predictor_width": 32}
BYOL = {"name": "byol", **HEAD, "momentum": 0.99}
BALANCED = {"images_per_class": 4}
EXPANDED = {"hidden_width": 128, "projection_width": 128}
DINO = {
    "name": "dino",
    "hidden_width": 256,
    "projection_width": 64,
    "head_batch_norm": True,
    "prototypes": 1024,
    "momentum": 0.98,
}
CROPS = [{"count": 2}, {"count": 2, "image_size": 16, "crop_area": [0.25, 0.5]}]
LONGER = {"epochs": 12, "optimizer": {"name": "adamw", "learning_rate": 0.002}}  # without negatives
LONGEST = LONGER | {"epochs": 24}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cross_entropy": ({"name": "cross_entropy"}, BALANCED),
    "supcon": ({"name": "supcon", **HEAD}, BALANCED),
    "hcl": ({"name": "hcl", **HEAD}, BALANCED),
    "hcl ignore": ({"name": "hcl", "weighting": "ignore", **HEAD}, BALANCED),
    "hmlc": ({"name": "hmlc", **HEAD}, BALANCED),
    "n_pairs": ({"name": "n_pairs"}, BALANCED),
    "simclr": ({"name": "simclr", **HEAD}, {}),
    "contrastive_crop": ({"name": "simclr", **HEAD}, {}),
    "mocov2": (MOCO, {}),
    "mocov2 on other backgrounds": (MOCO, {}),
    "simsiam": (SIMSIAM, LONGER),
    "byol": (BYOL, LONGER),
    "dino": (DINO, LONGER),
    "barlow_twins": (
        {"name": "barlow_twins", **EXPANDED, "projection_width": 512},
        LONGEST | {"global_batch_size": 32},
    ),
    "vicreg": ({"name": "vicreg", **EXPANDED}, LONGEST),
    "lcr": ({"name": "lcr", "base": MOCO}, {}),
    # The gain of SAM-SSL-Bilinear hangs on the seed: 10 and 11 give +7.0 and -0.5 in the linear probe, +5.0 and +4.2 in
    # rank-1 (of its bilinear features, +13.1 and +5.6, +2.5 and +4.6); on BYOL, 20 and 21 give +1.5 and -3.1, +4.6 and
    # +1.5.
    "sam_ssl_bilinear": ({"name": "sam_ssl_bilinear", "base": MOCO}, LONGER),
    "lewel on byol": ({"name": "lewel", "base": BYOL}, LONGER),
    "lewel on mocov2": ({"name": "lewel", "base": MOCO}, {}),
    "synthesized on mocov2": ({"name": "synthesized", "base": MOCO, "bank_size": 256}, {}),
    "synthesized on simsiam": ({"name": "synthesized", "base": SIMSIAM, "bank_size": 256}, LONGER),
    "synthesized on byol": ({"name": "synthesized", "base": BYOL, "bank_size": 256}, LONGER),
    "synthesized on dino": ({"name": "synthesized", "base": DINO, "bank_size": 256}, LONGER),
}
# Toy's four backgrounds outshine the genera, and some methods cluster by them if objects stay on their own: on seeds 11
# and 12, DINO's linear probe gained 2 points and lost 8. On other backgrounds, chosen on 21 and 22, it gained 7 and 8,
# and 5 and 2 on the seeds of this test.
BACKGROUNDS = {"background": {"probability": 0.8}}
VIEWS: dict[str, dict[str, Any]] = {
    "dino": {"recipes": CROPS, **BACKGROUNDS},
    "barlow_twins": BACKGROUNDS,
    "synthesized on dino": {"recipes": CROPS, **BACKGROUNDS},
    "mocov2 on other backgrounds": {"background": True},
    "contrastive_crop": {"contrastive_crop": {"warm_up_epochs": 2, "every_epochs": 2}},
}
IN_SHORT = (
    "cross_entropy",
    "hcl",
    "n_pairs",
    "simclr",
    "mocov2",
    "simsiam",
    "barlow_twins",
    "lcr",
    "synthesized on mocov2",
)

Measure = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Return `measured(method, training, views, seed)`, the cached linear probe and rank-1 after a training."""
    out = tmp_path_factory.mktemp("learns")

    def measure(method: dict[str, Any], training: dict[str, Any], views: dict[str, Any], seed: int) -> dict[str, float]:
        given = {"seed": seed, "method": method, "training": training, "views": views}
        mapping = Layer(SETTINGS).merge(given, configs.CHOICES)
        config = configs.parse(mapping, "test")
        found = execute(config, out).evaluation(config)
        assert found is not None
        return {name: found.measures[name] for name in ("linear_100", "rank1")}

    return measure


@pytest.mark.parametrize("name", [name for name in METHODS if WHOLE_MATRIX or name in IN_SHORT])
def test_beats_its_untrained_encoder(name: str, measured: Measure) -> None:
    method, training = METHODS[name]
    gains: dict[str, list[float]] = {"linear_100": [], "rank1": []}
    for seed in SEEDS:
        untrained = measured({"name": "start_encoder"}, {}, {}, seed)
        trained = measured(method, training, VIEWS.get(name, {}), seed)
        for measure in gains:
            gains[measure].append(trained[measure] - untrained[measure])
    print(gains)
    for measure, gained in gains.items():
        least = 2 if name == "dino" else 4  # points; measured: 3 (linear_100 of dino), 6 (rank1 of byol) to 49
        assert sum(gained) / len(gained) > least, (measure, gained)
        assert min(gained) > 0, (measure, gained)
