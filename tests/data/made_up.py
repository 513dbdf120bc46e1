"""A packed dataset of made-up bytes, and a child process in which tests use it."""

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import partial

from fgssl.data.source import Sample, SourceDataset
from fgssl.store.manifest import Level

LEVELS = (Level("species", ("a/x", "a/y", "b/x")), Level("genus", ("a", "b")))


def sample(number: int) -> Sample:
    content = hashlib.sha256(str(number).encode()).digest() * (1 + number % 7)
    return Sample(
        image=content,
        labels=(number % 3, number % 3 // 2),
        source_id=f"größe/{number}.png",
        group=f"track{number // 4}" if number < 20 else "",
        attributes={"light": number / 8, "pose": -float(number)},
    )


def dataset(count: int = 60, seed: int = 0) -> SourceDataset:
    return SourceDataset(
        name="made-up",
        source="test",
        arguments={"seed": seed},
        levels=LEVELS,
        splits={
            "train": [partial(sample, number) for number in range(count)],
            "test": [partial(sample, number) for number in range(100, 110)],
        },
        seed=seed,
        drawn=True,
    )


def in_child(function: Callable[[], str]) -> str:
    """Return the result of `function`, or the message of its exception, from a fork of this process."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the very case under test
        child = os.fork()
    if child == 0:
        try:
            text = function()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(send, text.encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return text
