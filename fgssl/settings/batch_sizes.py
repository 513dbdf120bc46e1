"""Advice on numbers of images that do not fit one another: batch, BatchNorm group, queue, bank and images per class."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgssl.settings.config import Config


@dataclass(frozen=True)
class Supply:
    """Training images of a dataset."""

    images: int
    classes: int = 0
    """Classes of the finest level that have training images, or 0 if the images are unlabeled."""
    smallest_class: int = 0
    """Training images of the smallest of these classes."""


@dataclass(frozen=True)
class _Sizes:
    batch: int
    group: int
    per_class: int | None
    micro: int | None
    shard: int | None
    queue: int | None
    bank: int | None


_KEYS = {
    "batch": "training.global_batch_size",
    "group": "encoder.batch_norm_group_size",
    "per_class": "training.images_per_class",
    "micro": "resources.micro_batch_size",
    "shard": "training.exact_shard_size",
    "bank": "method.bank_size",
}


def fitting_sizes(config: "Config", supply: Supply | None = None) -> str:
    """Return the values near those of `config` that fit one another, and the dataset if its `supply` is given.

    The text goes on after a colon, such as `take training.global_batch_size 64, method.queue_size 64`. If no such
    values were found, it names the keys.
    """
    method, training, resources = config.method, config.training, config.resources
    given = _Sizes(
        batch=training.global_batch_size,
        group=config.encoder.batch_norm_group_size,
        per_class=training.images_per_class,
        micro=resources.micro_batch_size,
        shard=training.exact_shard_size if training.invariant == "exact" else None,
        queue=getattr(getattr(method, "base", method), "queue_size", None),
        bank=getattr(method, "bank_size", None),
    )
    found = _fitting(given, supply, training.invariant == "exact", method.needs_labels)
    values = {} if found is None else dataclasses.asdict(found)
    keys = _KEYS | {"queue": f"method.{'base.' if hasattr(method, 'base') else ''}queue_size"}
    changes = [
        f"{keys[name]} {'null' if value is None else value}"
        for name, value in values.items()
        if value != getattr(given, name)
    ]
    if changes:
        return f"take {', '.join(changes)}"
    return f"change {', '.join(keys[name] for name, value in dataclasses.asdict(given).items() if value is not None)}"


def _fitting(given: _Sizes, supply: Supply | None, exact: bool, several_classes: bool) -> _Sizes | None:
    per_class, most = given.per_class, given.batch
    if supply is not None:
        if per_class is not None and supply.smallest_class < per_class:
            fewer = range(2, supply.smallest_class + 1)
            fitting = (each for each in fewer if most % each == 0 and most // each <= supply.classes)
            per_class = max(fitting, default=None)
        most = min(most, supply.images, (per_class or most) * (supply.classes or most))
    if several_classes and per_class is not None and most // per_class < 2:
        per_class = most // 2 if most > 3 else None
    if per_class is not None and not _fits(math.lcm(given.group, per_class), most, supply):
        per_class = _beside_group(given, supply, per_class, exact, several_classes)
        if supply is not None:
            most = min(given.batch, supply.images, per_class * (supply.classes or given.batch))
    batch, group = _batch_and_group(given, most, per_class or 1, supply)
    shard = given.shard if given.shard is not None and given.shard % group == 0 and given.shard <= batch else None
    if exact:
        powers = [(shard or group) << power for power in range(batch.bit_length())]
        allowed = [size for size in powers if size <= batch and size % (per_class or 1) == 0]
        if not allowed:
            return None
        batch = allowed[-1]
    micro, queue = given.micro, given.queue
    if micro is not None and (batch % micro or micro % group):
        micro = max(size for size in range(group, max(micro, group) + 1, group) if batch % size == 0)
    if queue is not None and supply is not None:
        queue = min(queue, max(batch, supply.images))
    if queue is not None and queue % batch:
        queue = max(1, queue // batch if supply is not None else (queue + batch // 2) // batch) * batch
    return _Sizes(
        batch, group, per_class, None if exact else micro, shard, queue, given.bank and max(given.bank, group)
    )


def _fits(unit: int, most: int, supply: Supply | None) -> bool:
    """Return whether a batch of about `most` images, at most so many with a supply, can be a multiple of `unit`."""
    return unit <= most or (supply is None and 3 * unit <= 4 * most)


def _beside_group(given: _Sizes, supply: Supply | None, per_class: int, exact: bool, several_classes: bool) -> int:
    """Return the images per class nearest to `per_class` with which the group of BatchNorm can stay, if there are any.

    Another group changes what the networks compute, and another number of images per class only what a batch holds.
    """
    images, classes = (given.batch, given.batch) if supply is None else (supply.images, supply.classes)
    fitting = []
    for each in range(2, (given.batch if supply is None else supply.smallest_class) + 1):
        unit, most = math.lcm(given.group, each), min(given.batch, images, each * classes)
        if most // unit * unit >= each * (1 + several_classes) and not (exact and given.group % each):
            fitting.append(each)
    return min(fitting, key=lambda each: (abs(each - per_class), -each), default=per_class)


def _batch_and_group(given: _Sizes, most: int, per_class: int, supply: Supply | None) -> tuple[int, int]:
    """Return a batch of about `most` images, at most so many with a supply, and a BatchNorm group that divides it."""
    unit, bounded = math.lcm(given.group, per_class), supply is not None
    if _fits(unit, most, supply):
        nearest = max(1, most // unit if bounded else (most + unit // 2) // unit) * unit
        return nearest, given.group
    batch = max(1, most // per_class) * per_class  # smaller than the group, which follows it
    if bounded and per_class == 1:
        batch = 1 << batch.bit_length() - 1
    return batch, batch
