"""Measures of features and labels.

`outliers`, `retrieval` and `weighted_knn` can be imported from here, and are loaded at their first use: planning reads
the settings and columns of measures, which lie in this package too, without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgssl.evaluation.centroids import outliers
    from fgssl.evaluation.knn import weighted_knn
    from fgssl.evaluation.ranking import retrieval

__all__ = ["outliers", "retrieval", "weighted_knn"]

_MODULES = {"outliers": "centroids", "retrieval": "ranking", "weighted_knn": "knn"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
