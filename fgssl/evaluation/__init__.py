"""Features and labels -> measures.

`outliers`, `retrieval` and `weighted_knn` are offered here and imported when first used: the settings and columns of
measures, in this package too, are read where there is no torch.
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
