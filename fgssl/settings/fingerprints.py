"""Plain values and YAML of a `Config`, and the fingerprints that name its run folder and its results."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

from fgssl.settings import layers
from fgssl.settings.config import Config
from fgssl.settings.declare import FIRST_DEFAULT

SCHEMA = 2
"""Version of the meaning of settings, part of every fingerprint; raised when the meaning of one changes. Since 2 images
are decoded, cropped and colored with other arithmetic."""


def to_mapping(config: Any) -> layers.Layer:
    """Return the settings as plain values, as YAML holds them."""
    return layers.Layer(json.loads(json.dumps(dataclasses.asdict(config))))


def to_yaml(config: Any) -> str:
    """Return the settings as YAML, every key written out."""
    return layers.to_yaml(to_mapping(config))


def scientific(config: Any, added: bool = True) -> Any:
    """Return the settings that can change a result, as plain values.

    A field that was added later is left out while it has its first default, and always if `added` is False. So a run
    keeps its fingerprint when its settings class grows.
    """
    if isinstance(config, list | tuple):
        return [scientific(item, added) for item in config]
    if not dataclasses.is_dataclass(config):
        return config
    kind: type = type(config)
    content = {}
    for name, first in _scientific_fields(kind):
        value = scientific(getattr(config, name), added)
        if first is MISSING or (added and value != first):
            content[name] = value
    return content


@functools.cache
def _scientific_fields(kind: type) -> list[tuple[str, Any]]:
    """Return the names of the fields that can change a result, each with its first default if it was added later."""
    return [
        (field.name, scientific(field.metadata.get(FIRST_DEFAULT, MISSING), added=False))
        for field in dataclasses.fields(kind)
        if field.metadata.get("scientific", True)
    ]


def not_scientific(config: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted keys of settings and whole sections that cannot change a result."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.metadata.get("scientific", True):
            yield f"{above}{field.name}"
        elif dataclasses.is_dataclass(value):
            yield from not_scientific(value, f"{above}{field.name}.")


def _hash(content: Any) -> str:
    text = json.dumps([SCHEMA, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def training_fingerprint(config: Config) -> str:
    """Return the hash of all settings that decide the trained weights, 12 hexadecimal digits; it names the run folder.

    The evaluation is left out, so that it can change without training again.
    """
    content = scientific(config)
    for source in content["start"].values():
        if source is not None and source["file"] is not None:
            # The run records the hash of the file's content; one file can have many paths.
            source["file"] = "file"
    del content["evaluation"]
    if not config.method.trains:
        del content["training"]
    if config.data.dataset != "toy":
        del content["data"]["toy"]
    return _hash(content)


def evaluation_fingerprint(config: Config) -> str:
    """Return the hash of the evaluation's settings, which names the file of results in the run folder."""
    return _hash(scientific(config.evaluation))


def run_name(config: Config) -> str:
    """Return the name of the run folder: method, seed and training fingerprint."""
    return f"{config.method.name}-seed{config.seed}-{training_fingerprint(config)}"
