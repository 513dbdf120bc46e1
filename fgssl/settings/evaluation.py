"""Section `evaluation`: the measures that are taken of a frozen encoder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fgssl.registries import Registry
from fgssl.settings.declare import FIRST_DEFAULT, NOT_SCIENTIFIC, LabelLevel, added_later, settings
from fgssl.settings.measure import Column, Measure

MEASURES = Registry(
    f"{__file__}: MEASURES",
    {
        "linear": "fgssl.evaluation.measures.linear:LinearProbe",
        "retrieval": "fgssl.evaluation.measures.retrieval:Retrieval",
        "retrieval_across": "fgssl.evaluation.measures.retrieval_across:RetrievalAcross",
        "knn": "fgssl.evaluation.measures.knn:KNN",
        "outliers": "fgssl.evaluation.measures.outliers:Outliers",
        "hierarchy": "fgssl.evaluation.measures.hierarchy:Hierarchy",
        "nuisances": "fgssl.evaluation.measures.nuisances:Nuisances",
        "collapse": "fgssl.evaluation.measures.collapse:Collapse",
        "classifier": "fgssl.evaluation.measures.classifier:ClassifierAccuracy",
    },
)
"""Dotted path of the measure of each key of `evaluation`, in the order of table columns. Each line makes a field."""

_FIRST = ("linear", "retrieval", "knn", "outliers", "nuisances", "collapse", "classifier")
"""Keys of the first release, which are part of every fingerprint; a later key is part of it only when it is set."""

T = TypeVar("T")


def _measure(key: str) -> type[Measure]:
    found: type[Measure] = MEASURES.load(key)
    return found


def _with_measures(cls: type[T]) -> type[T]:
    """Add a field for each key of `MEASURES` to the class."""
    for key in MEASURES:
        measure = _measure(key)
        cls.__annotations__[key] = measure.field_type()
        metadata = {} if key in _FIRST else {FIRST_DEFAULT: measure.default()}
        setattr(cls, key, field(default_factory=measure.default, metadata=metadata))
    return cls


@settings
@_with_measures
class EvaluationSettings:
    """Measures of a frozen encoder, one key each.

    By default the linear probe and retrieval are taken, which are the measures of Synthesized Pairs (Table 1). The keys
    of a measure are the fields of its class in `fgssl.evaluation.measures`.
    """

    label_level: LabelLevel = 0
    """Level of the labels for all measures but the outliers, which name their own. 0 is the finest (species)."""
    pooling: Literal["gap", "attention", "bilinear"] = added_later(default="gap")
    """Pooling of the feature map to the features that are measured. `gap` is the encoder's own, global average pooling
    in a ResNet. `attention` is learned by `lcr` and `bilinear` by `sam_ssl_bilinear`. A sweep measures several by one
    arm each, which share one training. `keep_features` keeps features of `gap` only."""
    keep_features: Literal["float16", "float32"] | None = field(default="float16", metadata=NOT_SCIENTIFIC)
    """Type of the features that are kept in the run folder (features.safetensors); if empty, none are. Measures are
    computed before rounding. A later evaluation with other measures reads `float32` features, which are exact, and
    encodes all images again if they are `float16`, which take half the space. A split with a value beyond float16's
    range is kept in float32. Evaluations that exist are not repeated to keep their features."""

    shown_columns: tuple[str, ...] = field(default=(), metadata=NOT_SCIENTIFIC)
    """Columns that tables show in addition to the usual ones, such as linear_100_balanced or learning_rate_100. All
    columns are recorded and stand in rows.csv, whether they are shown or not."""

    if TYPE_CHECKING:

        def __getattr__(self, measure: str) -> Any: ...

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"no measure is given: set at least one of {', '.join(MEASURES)}")
        measured_by: dict[str, str] = {}
        for key, measure in self.measures.items():
            for column in measure.columns():
                if (other := measured_by.setdefault(column.name, key)) != key:
                    raise ValueError(f"{other} and {key} both have the column {column.name!r}: rename one of them")
        if unknown_columns := [name for name in self.shown_columns if name not in measured_by]:
            raise ValueError(
                f"shown_columns: no measure has the column {', '.join(unknown_columns)}: choose among "
                f"{', '.join(measured_by)}"
            )

    @property
    def measures(self) -> dict[str, Measure]:
        """Measures that are set, by key."""
        asked = {key: _measure(key).asked(getattr(self, key)) for key in MEASURES}
        return {key: measure for key, measure in asked.items() if measure is not None}

    @property
    def columns(self) -> list[Column]:
        """Columns of all measures that are set, in the order of a table."""
        return [
            dataclasses.replace(column, shown=column.shown or column.name in self.shown_columns)
            for measure in self.measures.values()
            for column in measure.columns()
        ]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return the remarks of all measures on their values."""
        return [remark for measure in self.measures.values() for remark in measure.remarks(values)]
