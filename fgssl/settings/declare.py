"""Declaration of settings: frozen dataclasses that pydantic validates.

No module of `fgssl.settings` imports torch, so that a login node validates a sweep at once.
"""

import dataclasses
import difflib
import functools
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field
from types import NoneType
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fgssl.registries import Registry

T = TypeVar("T")


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not allowed: give a number")
    return value


NUMBER = BeforeValidator(_no_boolean)
"""Annotation of every numeric setting. It rejects booleans, which Python takes for 0 and 1."""

NO_NAME = "give the number of a label level, 0 for the finest"
"""Message about a label level that is given by name, to which commands add the levels of the data."""


def _no_level_name(value: object) -> object:
    if isinstance(value, str) and not value.isdigit():
        raise PydanticCustomError("level_name", NO_NAME)
    return value


PositiveInt = Annotated[int, Field(gt=0), NUMBER]
NonNegativeInt = Annotated[int, Field(ge=0), NUMBER]
LabelLevel = Annotated[NonNegativeInt, BeforeValidator(_no_level_name)]
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

    registry: Registry
    """Classes by name."""
    default: str | None = None
    """Name that is assumed if the mapping gives none. None makes `name` mandatory."""

    def chosen(self, given: object) -> type | None:
        """Return the class that the mapping `given` chooses, or None if it chooses none."""
        name = given.get("name", self.default) if isinstance(given, Mapping) else None
        return self.registry.load(name) if isinstance(name, str) and name in self.registry else None

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


def faulty_keys(field: str, given: Mapping[str, object], faults: Mapping[str, str]) -> ValidationError:
    """Return the error about keys in the mapping `given` of a field, which its class raises in `__post_init__`."""
    return ValidationError.from_exception_data(
        field,
        [
            {"type": "value_error", "loc": (field, key), "input": given[key], "ctx": {"error": ValueError(message)}}
            for key, message in faults.items()
        ],
    )


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


def _as_section(value: object) -> object:
    return {} if value is True else None if value is False else value


SWITCH = BeforeValidator(_as_section)
"""Annotation of a section that may be null, which `settings` adds: `true` reads as `{}`, and `false` as null."""


def _is_section(annotation: Any) -> bool:
    chosen = any(isinstance(one, ChosenByName) for one in getattr(annotation, "__metadata__", ()))
    return chosen or dataclasses.is_dataclass(annotation)


def _is_section_or_null(annotation: Any) -> bool:
    """Return whether an annotation allows null and sections only, which are settings classes or chosen by name."""
    options = get_args(annotation)
    return NoneType in options and all(option is NoneType or _is_section(option) for option in options)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, added_later))
def settings(cls: type[T]) -> type[T]:
    """Declare a settings class: frozen and keyword-only; validation rejects unknown keys.

    A section that may be null also accepts `true` for its defaults and `false` for null.
    """
    for name, annotation in cls.__annotations__.items():
        if _is_section_or_null(annotation):
            cls.__annotations__[name] = Annotated[annotation, SWITCH]
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)
