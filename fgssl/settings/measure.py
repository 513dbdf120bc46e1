"""Contract of a measure: its settings, its columns, its demands on a dataset, and its values.

A measure is a subclass of `Measure` in its own file, and a line in `MEASURES` in `fgssl.settings.evaluation`. Plans and
tables read its columns without torch, so the file imports torch, numpy and the modules with the formulas only inside
`value` and `check`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator

from fgssl.settings.declare import settings

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest

Unit: TypeAlias = Literal["percent", "count", "number"]
"""Unit of a column; `count` is a number of test images."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Column of a table of results."""

    name: str
    """Name of the column, which is also the key of its number in `value`."""
    unit: Unit
    """Unit of its numbers, which decides how they are printed."""
    lower_is_better: bool = False
    """Whether a smaller number is a better result."""
    note: str = ""
    """Explanation under the table; empty if name and unit suffice."""
    shown: bool = True
    """Whether tables show the column; rows.csv has all columns."""


BALANCED_POINTS = 5.0
"""Difference from the balanced accuracy, in percentage points, from which a remark points at it."""


def balanced_column(name: str) -> Column:
    """Return the column of the balanced accuracy beside the accuracy in the column `name`."""
    note = "mean over the classes of the share of their test images that is classified correctly"
    return Column(name=f"{name}_balanced", unit="percent", note=note, shown=False)


def balanced_remarks(name: str, values: Mapping[str, float]) -> list[str]:
    """Return a remark if the accuracy in the column `name` differs much from the balanced accuracy."""
    accuracy, balanced = values.get(name), values.get(f"{name}_balanced")
    if accuracy is None or balanced is None or abs(accuracy - balanced) < BALANCED_POINTS:
        return []
    return [
        f"{name}: {accuracy:.2f} percent of the test images, but {balanced:.2f} percent if every class counts alike "
        f"({name}_balanced, which evaluation.shown_columns puts into tables)"
    ]


def single_class(manifest: "Manifest", split: str, key: str, level: int) -> list[str]:
    """Return a message about the setting `key` of a label level if a split has images of one class only."""
    if split not in manifest.splits:
        return []
    present = [
        name
        for name, count in zip(manifest.levels[level].classes, manifest.class_counts[split][level], strict=True)
        if count
    ]
    if len(present) != 1:
        return []
    return [
        f"{key}: all {manifest.count(split)} images of the split `{split}` of {manifest.title} are of one "
        f"{manifest.levels[level].name} ({present[0]}), so there is nothing to tell apart: take a level with two "
        "classes or more, pack images of other classes, or leave this measure out"
    ]


def _as_flag(value: object) -> object:
    return False if value is None else True if value == {} else value


@settings
class Measure:
    """Measure of an encoder's features. The fields of a subclass are its settings in the YAML."""

    written: ClassVar[Any] = None
    """Type of the key's value in the YAML. If it is None, the value is a boolean for a class without fields, and the
    fields or null for one with fields. Every measure is switched alike: null and `{}` also stand for a boolean, and
    `true` and `false` for the default fields and null."""

    @classmethod
    def field_type(cls) -> Any:
        """Return the type that the key's value must have."""
        return cls.written or (cls | None if dataclasses.fields(cls) else Annotated[bool, BeforeValidator(_as_flag)])

    @classmethod
    def default(cls) -> Any:
        """Return the value of a key that is left out. Unless overridden, it means that the measure is not taken."""
        return None if dataclasses.fields(cls) else False

    @classmethod
    def asked(cls, value: Any) -> Self | None:
        """Return the measure with the settings in `value`, or None if `value` means that it is not taken."""
        return value if isinstance(value, cls) else cls() if value else None

    def columns(self) -> list[Column]:
        """Return the columns whose numbers `value` returns, in the order of the table."""
        raise NotImplementedError

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return remarks on `values`, such as that a chosen learning rate is the largest candidate.

        They stand under tables, below the measures that commands print, and in rows.csv. `values` may lack columns, if
        an earlier version measured them.
        """
        return []

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return {dotted key of each setting that chooses a label level: that level}; {} if no labels are needed."""
        return {"evaluation.label_level": label_level}

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message for each thing, other than label levels, that the dataset lacks.

        Each message begins with the dotted key of the setting that needs it.
        """
        return []

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` if the labels, groups or attributes of the splits do not allow this measure.

        Called before training; the default checks nothing.
        """

    def value(self, features: "Features") -> dict[str, float]:
        """Return the value of each column, and further values that neither tables nor rows.csv hold."""
        raise NotImplementedError
