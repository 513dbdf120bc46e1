"""How a frozen encoder is measured."""

import pkgutil
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fgssl.settings.declare import FIRST_DEFAULT, NOT_SCIENTIFIC, NonNegativeInt, settings
from fgssl.settings.measure import Column, Measure

MEASURES: dict[str, str] = {
    "linear": "fgssl.evaluation.measures.linear:LinearProbe",
    "retrieval": "fgssl.evaluation.measures.retrieval:Retrieval",
    "knn": "fgssl.evaluation.measures.knn:KNN",
    "outliers": "fgssl.evaluation.measures.outliers:Outliers",
    "nuisances": "fgssl.evaluation.measures.nuisances:Nuisances",
    "collapse": "fgssl.evaluation.measures.collapse:Collapse",
    "classifier": "fgssl.evaluation.measures.classifier:ClassifierAccuracy",
}
"""Key of `evaluation` -> the class of its measure, in the order of a table's columns. Each line makes a field."""

_FIRST = ("linear", "retrieval", "knn", "outliers", "nuisances", "collapse", "classifier")
"""Keys of the first release, which are part of every fingerprint; others count when their measure is asked for."""

T = TypeVar("T")


def _measure(key: str) -> type[Measure]:
    found: type[Measure] = pkgutil.resolve_name(MEASURES[key])
    return found


def _with_measures(cls: type[T]) -> type[T]:
    """Declare a field for each of `MEASURES`."""
    for key in MEASURES:
        measure = _measure(key)
        cls.__annotations__[key] = measure.field_type()
        metadata = {} if key in _FIRST else {FIRST_DEFAULT: measure.default()}
        setattr(cls, key, field(default_factory=measure.default, metadata=metadata))
    return cls


@settings
@_with_measures
class EvaluationSettings:
    """Measures to take, one field each: by default the linear probe and retrieval."""

    label_level: NonNegativeInt = 0
    """Level of the labels of all measures but the outliers: 0 is the finest (species)."""
    keep_features: Literal["float16", "float32"] | None = field(default="float16", metadata=NOT_SCIENTIFIC)
    """Type of the features that stay in the run folder (features.safetensors), or empty: they are not kept. Measures
    are computed before they are rounded. A later evaluation with other measures reads `float32` features again, which
    are exact, and encodes all images again for `float16`, which take half the space; a split with a value beyond
    float16's range stays in float32. An evaluation that exists is not done again to keep its features."""

    if TYPE_CHECKING:

        def __getattr__(self, measure: str) -> Any: ...

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"no measure is asked for: give {', '.join(MEASURES)}")

    @property
    def measures(self) -> dict[str, Measure]:
        """The measures that are asked for, by their keys."""
        asked = {key: _measure(key).asked(getattr(self, key)) for key in MEASURES}
        return {key: measure for key, measure in asked.items() if measure is not None}

    @property
    def columns(self) -> list[Column]:
        """The columns of all measures that are asked for, in the order of a table."""
        return [column for measure in self.measures.values() for column in measure.columns()]
