"""Weights that a run starts from: does the stage of its sweep train them, and do they fit?"""

import dataclasses
from typing import Any

from fgssl.settings.config import Config


def misfits(role: str, stage: Config, config: Config) -> list[str]:
    """Why `config` cannot start its `role` (`encoder`, ...) from what `stage` trains; [] where it can.

    Each reads on after the stage's name. The settings alone are looked at: a decoder or a classifier of another encoder
    does not fit, even where both encoders have features of one width.
    """
    if role not in stage.method.networks:
        return [f"({stage.method.name}) trains no {role}"]
    here = _of(role, config)
    return [
        f"has {key} {value}, but what starts its {role} from it has {here[key]}: give both the same"
        for key, value in _of(role, stage).items()
        if key in here and here[key] != value
    ]


def _of(role: str, config: Config) -> dict[str, Any]:
    """The settings that the weights of a network depend on, by key."""
    encoder = config.encoder
    found: dict[str, Any] = {"encoder.name": encoder.name, "encoder.stem": encoder.stem}
    # Rates of dropout have no weights: a stage may well train without.
    arguments = {name: value for name, value in encoder.arguments.items() if not _is_drop_rate(name)}
    found["encoder.arguments"] = arguments
    if role == "decoder" and config.decoder is not None:
        found["decoder"] = dataclasses.asdict(config.decoder)
        if not config.decoder.weights_fit_any_size:
            found["views.image_size"] = config.views.image_size
    if role == "classifier" and role in config.method.networks:
        found |= {"method.level": config.method.label_level, "data.dataset": config.data.dataset}
    return found


def _is_drop_rate(argument: str) -> bool:
    return "drop" in argument and argument.endswith("_rate")
