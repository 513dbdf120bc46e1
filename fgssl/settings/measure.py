"""Contract of a measure: a key of `evaluation`, the columns that it fills, what it needs of a dataset, its values.

A measure is a subclass in a file of its own and a line of `MEASURES` in `fgssl.settings.evaluation`. Plans and tables
read its columns where there is no torch, so its file imports torch, numpy and formulas inside `value` and `check` only.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from fgssl.settings.declare import settings

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest

Unit: TypeAlias = Literal["percent", "count", "number"]
"""`count` is a number of test images."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table of results."""

    name: str
    unit: Unit
    lower_is_better: bool = False
    note: str = ""
    """Explanation under the table; empty if the name and the unit suffice."""


@settings
class Measure:
    """A measure of an encoder's features. The fields of a subclass are its settings in the YAML."""

    written: ClassVar[Any] = None
    """Type of the key's value in the YAML; None: a boolean, or the class and null if it has fields."""

    @classmethod
    def field_type(cls) -> Any:
        """Return the type of the key's value."""
        return cls.written or (cls | None if dataclasses.fields(cls) else bool)

    @classmethod
    def default(cls) -> Any:
        """Return the key's value where none is given; unless overridden, the measure is not taken then."""
        return None if dataclasses.fields(cls) else False

    @classmethod
    def asked(cls, value: Any) -> Self | None:
        """Return the measure that the key's value asks for, or None."""
        return value if isinstance(value, cls) else cls() if value else None

    def columns(self) -> list[Column]:
        """Return the columns that `value` fills, in the order of the table."""
        raise NotImplementedError

    def label_levels(self, label_level: int) -> dict[str, int]:
        """Return the levels of the labels that are read, by the dotted key that chooses each; empty: no labels."""
        return {"evaluation.label_level": label_level}

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return what a dataset lacks beside these levels, a message each that opens with the dotted key."""
        return []

    def check(self, splits: "Splits") -> None:
        """Raise `DataError` for labels, groups or attributes that cannot be measured; called before the training."""

    def value(self, features: "Features") -> dict[str, float]:
        """Return the value of each column, and of further names that no table shows (a chosen learning rate)."""
        raise NotImplementedError
