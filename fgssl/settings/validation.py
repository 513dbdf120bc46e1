"""A plain mapping -> an instance of a settings class, or every fault in it at once, each with its dotted key."""

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from fgssl.errors import Problem, SettingsError

T = typing.TypeVar("T", bound=object)


def validate(mapping: Mapping[str, Any], kind: type[T], source: str) -> T:
    """`mapping` as an instance of the settings class `kind`; raises a `SettingsError` with all problems."""
    try:
        return _adapter(kind).validate_python(mapping)  # type: ignore[arg-type]  # mypy doubts that a class is hashable
    except ValidationError as error:
        raise SettingsError(_unique(_problems(error, kind, source))) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# ------------------------------------------------------------------------------------------ problems


def _resolve(kind: Any, location: Iterable[int | str]) -> tuple[list[str], list[Any]]:
    """The dotted key of pydantic's location (which also names union branches) and the settings classes it lies in."""
    key: list[str] = []
    classes: list[Any] = [kind]
    for part in location:
        fields = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
        if isinstance(part, int):
            key.append(str(part))
        elif part in fields:
            key.append(part)
            classes = _classes(fields[part], part)
        elif any(part in (_tag(cls), cls.__name__) for cls in classes):  # a branch of a union, no key of the file
            classes = [cls for cls in classes if part in (_tag(cls), cls.__name__)]
        elif re.fullmatch(r"\w+", part) and part not in ("float", "int", "str", "bool", "list", "dict"):
            key.append(part)
            classes = []
    return key, classes


def _problems(error: ValidationError, kind: type, source: str) -> list[Problem]:
    problems = []
    for detail in error.errors(include_url=False):
        location, value = detail["loc"], detail["input"]
        key, _ = _resolve(kind, location)
        dotted = ".".join(key)
        if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            _, owners = _resolve(kind, location[:-1])
            known = sorted({field.name for owner in owners for field in dataclasses.fields(owner)})
            problems.append(Problem(source, dotted, unknown(str(location[-1]), known)))
        elif detail["type"] == "value_error":
            for line in str(detail["ctx"]["error"]).splitlines():
                problems.append(Problem(source, dotted, line))
        elif detail["type"] == "union_tag_invalid":
            tag, allowed = str(detail["ctx"]["tag"]), detail["ctx"]["expected_tags"].replace("'", "").split(", ")
            problems.append(Problem(source, f"{dotted}.name", unknown(tag, allowed, what="name")))
        elif detail["type"] == "union_tag_not_found":
            problems.append(Problem(source, dotted, "`name` is missing: it says which one is meant"))
        elif detail["type"] == "missing":
            problems.append(Problem(source, ".".join(key[:-1]), f"`{key[-1]}` is missing: it has no default"))
        elif detail["type"] == "dataclass_type":
            keys = ", ".join(field.name for owner in _resolve(kind, location)[1] for field in dataclasses.fields(owner))
            if problems and problems[-1].key == dotted:  # the other branch of a union has spoken
                problems[-1] = Problem(source, dotted, f"{problems[-1].message}, or a mapping with the keys {keys}")
            else:
                problems.append(
                    Problem(source, dotted, f"{value!r} is not allowed: give a mapping with the keys {keys}")
                )
        elif detail["type"] == "string_type" and isinstance(value, int | float):
            problems.append(
                Problem(source, dotted, f"{value!r} is not allowed: YAML reads no string here, put it in quotes")
            )
        else:
            problems.append(Problem(source, dotted, f"{value!r} is not allowed: {detail['msg'].lower()}"))
    return problems


def unknown(name: str, known: Sequence[str], what: str = "key") -> str:
    """The words of an error about an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}: {hint}allowed: {', '.join(known)}"


def _unique(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


# ------------------------------------------------------------------------------------------ classes


def _alternatives(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        return [inner for part in typing.get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


def _classes(kind: Any, key: str) -> list[Any]:
    """The settings classes that the field `key` of the class `kind` may hold."""
    annotation = typing.get_type_hints(kind, include_extras=True)[key]
    return [option for option in _alternatives(annotation) if dataclasses.is_dataclass(option)]


def _tag(kind: Any) -> str | None:
    """The one `name` of a settings class that is chosen by name; None for any other."""
    annotation = typing.get_type_hints(kind).get("name")
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Literal else None


def choices(kind: Any) -> Iterator[tuple[str, ...]]:
    """Paths of the settings in the class `kind` whose `name` says which class is meant."""
    for field in dataclasses.fields(kind):
        for held in _classes(kind, field.name):
            if _tag(held) is not None:
                yield (field.name,)
            yield from ((field.name, *path) for path in choices(held))
