"""How settings are declared: frozen dataclasses that pydantic validates, each beside the code it configures.

Nothing here or in any `settings` module imports torch, so a login node validates a sweep at once.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not allowed: give a number")
    return value


NUMBER = BeforeValidator(_no_boolean)
"""Of every numeric setting: Python takes True for 1, the settings do not."""

PositiveInt = Annotated[int, Field(gt=0), NUMBER]
NonNegativeInt = Annotated[int, Field(ge=0), NUMBER]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False), NUMBER]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]
FractionBelowOne = Annotated[FiniteFloat, Field(ge=0, lt=1)]

NOT_SCIENTIFIC: Mapping[str, Any] = {"scientific": False}
"""Metadata of a field that cannot change a result: left out of every fingerprint."""


FIRST_DEFAULT = "first_default"


def added_later(*, default: T, first: Any = MISSING) -> T:
    """Declare a field that was added after the first release, or a whole section.

    Fingerprints leave it out while it has the default that it was added with, so that runs made before it keep their
    names. When its default changes, give the one it was added with as `first`: `added_later(default=0.2, first=0.1)`.
    """
    return field(default=default, metadata={FIRST_DEFAULT: default if first is MISSING else first})


def default_name(name: str) -> BeforeValidator:
    """For a choice by `name`: which one is meant where a mapping says none."""
    return BeforeValidator(lambda value: {"name": name, **value} if isinstance(value, Mapping) else value)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, added_later))
def settings(cls: type[T]) -> type[T]:
    """Declare a settings class: frozen, keyword-only, unknown keys refused when validated."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)
