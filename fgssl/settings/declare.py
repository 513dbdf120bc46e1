"""Declaration of settings: frozen dataclasses that pydantic validates.

No module of `fgssl.settings` imports torch, so that a login node validates a sweep at once.
"""

import difflib
import functools
import pkgutil
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not allowed: give a number")
    return value


NUMBER = BeforeValidator(_no_boolean)
"""Annotation of every numeric setting. It rejects booleans, which Python takes for 0 and 1."""

PositiveInt = Annotated[int, Field(gt=0), NUMBER]
NonNegativeInt = Annotated[int, Field(ge=0), NUMBER]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False), NUMBER]
PositiveFloat = Annotated[FiniteFloat, Field(gt=0)]
NonNegativeFloat = Annotated[FiniteFloat, Field(ge=0)]
Fraction = Annotated[FiniteFloat, Field(ge=0, le=1)]
FractionBelowOne = Annotated[FiniteFloat, Field(ge=0, lt=1)]

NOT_SCIENTIFIC: Mapping[str, Any] = {"scientific": False}
"""Metadata of a field that cannot change a result, and that every fingerprint therefore leaves out."""


@dataclass(frozen=True, eq=False)  # hashed by identity, as annotations are
class ChosenByName:
    """Annotation of a field whose class is chosen by the `name` in its mapping: `Annotated[Base, ChosenByName(...)]`.

    A class is imported when it is chosen.
    """

    registry: Mapping[str, str]
    """Dotted path, `module:attribute`, of each class by its name."""
    default: str | None = None
    """Name that is assumed if the mapping gives none. None makes `name` mandatory."""

    def chosen(self, given: object) -> type | None:
        """Return the class that the mapping `given` chooses, or None if it chooses none."""
        name = given.get("name", self.default) if isinstance(given, Mapping) else None
        path = self.registry.get(name) if isinstance(name, str) else None
        return None if path is None else pkgutil.resolve_name(path)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def _validate(self, given: object) -> Any:
        if (kind := self.chosen(given)) is not None:
            assert isinstance(given, Mapping)
            return adapter(kind).validate_python({"name": self.default, **given})
        if not isinstance(given, Mapping):
            example = f"{{name: {next(iter(self.registry))}}}"
            raise PydanticCustomError("no_mapping", "give a mapping, such as {example}", {"example": example})
        if "name" not in given:
            near = difflib.get_close_matches("name", [key for key in given if isinstance(key, str)], n=1)
            hint = f" (mistyped as {near[0]!r}?)" if near else ""
            raise ValueError(f"`name` is missing{hint}: give one of {', '.join(self.registry)}")
        expected = ", ".join(f"'{name}'" for name in self.registry)
        context = {"discriminator": "'name'", "tag": str(given["name"]), "expected_tags": expected}
        raise ValidationError.from_exception_data("", [{"type": "union_tag_invalid", "input": given, "ctx": context}])


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the validator of the class `kind`, which is built once."""
    return TypeAdapter(kind)


def one_of(names: Collection[str]) -> AfterValidator:
    """Return the annotation of a string that must be among `names`, which are read when a value is validated."""

    def check(value: str) -> str:
        if value not in names:
            allowed = " or ".join(map(repr, names))
            raise PydanticCustomError("not_one_of", "input should be {allowed}", {"allowed": allowed})
        return value

    return AfterValidator(check)


FIRST_DEFAULT = "first_default"
"""Metadata key of the default with which a field was added."""


def added_later(*, default: T, first: Any = MISSING) -> T:
    """Declare a field, or a whole section, that was added after the first release.

    Fingerprints leave the field out while it has the default with which it was added, so that earlier runs keep their
    names. If its default changes, give the original one as `first`: `added_later(default=0.2, first=0.1)`.
    """
    return field(default=default, metadata={FIRST_DEFAULT: default if first is MISSING else first})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, added_later))
def settings(cls: type[T]) -> type[T]:
    """Declare a settings class: frozen and keyword-only; validation rejects unknown keys."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)
