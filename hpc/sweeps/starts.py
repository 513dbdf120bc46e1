"""Check that a stage trains the weights from which a run starts, and that they fit."""

import dataclasses
from typing import Any

from fgssl.settings.config import Config


def misfits(role: str, stage: Config, config: Config) -> list[str]:
    """Return the reasons why `config` cannot start its network `role` (`encoder`, ...) from `stage`.

    Each reason continues a sentence that begins with the stage's name. Only settings are compared, so a decoder or a
    classifier of another encoder does not fit, even if the features of both have the same width.
    """
    if role not in stage.method.networks:
        return [f"({stage.method.name}) trains no {role}"]
    here = _of(role, config)
    return [
        f"has {key} {value}, but the run that starts its {role} from it has {here[key]}: give both the same value"
        for key, value in _of(role, stage).items()
        if key in here and here[key] != value
    ]


def _of(role: str, config: Config) -> dict[str, Any]:
    """Return the settings on which the weights of a network depend, by key."""
    encoder = config.encoder
    found: dict[str, Any] = {"encoder.name": encoder.name, "encoder.stem": encoder.stem}
    # Rates of dropout have no weights, so stage and run may differ in them.
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
