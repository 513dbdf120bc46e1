"""Every method makes a random encoder better at the species of the embedded images, with labels and without."""

from pathlib import Path
from typing import Any

import pytest

from fgssl import config as configs
from fgssl.run import execute

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "views": {"image_size": 32},
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
    "evaluation": {"linear": {"label_fractions": [1.0], "learning_rates": [0.1, 1.0, 10.0]}},
    "resources": {"device": "cpu"},
}
HEAD = {"hidden_width": 128, "projection_width": 64}
MOCO = {"name": "mocov2", **HEAD, "queue_size": 512, "momentum": 0.99}
SIMSIAM = {"name": "simsiam", "hidden_width": 128, "projection_width": 128, "predictor_width": 32}
BALANCED = {"images_per_class": 4}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cross_entropy": ({"name": "cross_entropy"}, BALANCED),
    "supcon": ({"name": "supcon", **HEAD}, BALANCED),
    "hcl": ({"name": "hcl", **HEAD}, BALANCED),
    "n_pairs": ({"name": "n_pairs"}, BALANCED),
    "simclr": ({"name": "simclr", **HEAD}, {}),
    "mocov2": (MOCO, {}),
    "simsiam": (SIMSIAM, {}),
    "byol": ({"name": "byol", **HEAD, "momentum": 0.99}, {}),
    "synthesized on mocov2": ({"name": "synthesized", "base": MOCO, "bank_size": 256}, {}),
    "synthesized on simsiam": ({"name": "synthesized", "base": SIMSIAM, "bank_size": 256}, {}),
}


def measures(method: dict[str, Any], training: dict[str, Any], seed: int, out: Path) -> dict[str, Any]:
    mapping = configs.merge(SETTINGS, {"seed": seed, "method": method, "training": training})
    config = configs.parse(mapping, "test")
    found = execute(config, out).evaluation(config)
    assert found is not None
    return found
