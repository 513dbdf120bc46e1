"""Pre-training of fine-grained vision encoders, from images to the table of a sweep.

The program `fgssl` trains and tabulates. For notebooks and scripts this package gives access to the results:

    encoder = fgssl.load_encoder("outputs/smoke-demo/runs/...")   the encoder of a run, and its `transform`
    table = fgssl.read_table("outputs/smoke-demo")                means over seeds, as a pandas DataFrame
    rows = fgssl.read_rows("outputs/smoke-demo")                  one row per cell and seed
    fgssl.losses, fgssl.evaluation                                losses and measures, as functions of tensors

Each is imported at its first use, since planning a sweep needs neither torch nor pandas.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgssl import evaluation, losses
    from fgssl.results import load_encoder, read_rows, read_table

__all__ = ["evaluation", "load_encoder", "losses", "read_rows", "read_table"]

_PACKAGES = ("evaluation", "losses")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.results"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
