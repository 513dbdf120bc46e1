"""Every method makes a random encoder better at species that it was not told of, or was, on the embedded images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgssl import config as configs
from fgssl.run import execute

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
    "evaluation": {"linear": {"label_fractions": [1.0], "learning_rates": [0.1, 1.0, 10.0]}, "collapse": True},
    "resources": {"device": "cpu"},
}
HEAD = {"hidden_width": 128, "projection_width": 64}
MOCO = {"name": "mocov2", **HEAD, "queue_size": 512, "momentum": 0.99}
SIMSIAM = {"name": "simsiam", "hidden_width": 128, "projection_width": 128, "predictor_width": 32}
METHODS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"name": "cross_entropy"},
    "simclr": {"name": "simclr", **HEAD},
    "supcon": {"name": "supcon", **HEAD},
    "hcl": {"name": "hcl", **HEAD},
    "n_pairs": {"name": "n_pairs"},
    "mocov2": MOCO,
    "simsiam": SIMSIAM,
    "byol": {"name": "byol", "hidden_width": 128, "projection_width": 64, "momentum": 0.99},
    "synthesized on mocov2": {"name": "synthesized", "base": MOCO, "bank_size": 256},
    "synthesized on simsiam": {"name": "synthesized", "base": SIMSIAM, "bank_size": 256},
}
