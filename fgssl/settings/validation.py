"""Validation of a plain mapping as a settings class, with every fault at once, each with its dotted key."""

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fgssl.errors import Problem, SettingsError
from fgssl.settings.declare import ChosenByName, adapter
from fgssl.settings.layers import Layer, Place, locate

T = typing.TypeVar("T", bound=object)


def validate(mapping: Mapping[str, object], kind: type[T], source: str | Place) -> T:
    """Return `mapping` as an instance of the settings class `kind`; raise a `SettingsError` with all problems.

    Each problem has the place of its key; `source` is the place of the mapping itself.
    """
    try:
        return adapter(kind).validate_python(mapping)  # type: ignore[arg-type]  # mypy doubts that a class is hashable
    except ValidationError as error:
        raise SettingsError(_placed(_faults(error, kind, mapping), mapping, source)) from None


def without_faults(
    mapping: Any, kind: type, source: str | Place, instead: Mapping[str, object] = MappingProxyType({})
) -> tuple[Layer, list[Problem]]:
    """Return the valid part of `mapping`, against which other settings can be checked, and all problems.

    `instead` holds values for keys that are missing or faulty as a whole; it must be valid by itself.
    """
    content, problems = mapping, list[Problem]()
    while True:
        try:
            adapter(kind).validate_python(content)
            return Layer(content), problems
        except ValidationError as error:
            faults = _faults(error, kind, content)
            problems = problems or _placed(faults, mapping, source)
            if content == instead:
                raise SettingsError(problems) from None
            sound = _without(content, [key.split(".") for key, _ in faults if key])
            whole = any(not key for key, _ in faults)
            filled = {key: value for key, value in instead.items() if whole or key in content.keys() - sound.keys()}
            sound = Layer(filled).merge(sound)
            content = dict(instead) if sound == content else sound


def _without(content: object, keys: Sequence[Sequence[str]]) -> Layer:
    """Return the mapping without the values at the paths `keys`; a path ends early where no mapping goes on."""
    if not isinstance(content, Mapping):
        return Layer()
    rest = Layer(content)
    for name, value in content.items():
        inner = [key[1:] for key in keys if key[0] == str(name)]
        if inner and isinstance(value, Mapping) and all(inner):
            rest[name] = _without(value, inner)
        elif inner:
            del rest[name]
    return rest


def _placed(faults: Iterable[tuple[str, str]], mapping: object, source: str | Place) -> list[Problem]:
    top = Place(source) if isinstance(source, str) else source
    placed = [_placed_fault(key, message, mapping, top) for key, message in faults]
    return list(dict.fromkeys(placed))


def _placed_fault(key: str, message: str, mapping: object, top: Place) -> Problem:
    """Return the problem of a key, or of several keys in the line of the first one that a file's own message names."""
    if key or top.key:
        return locate(mapping, key.split(".") if key else (), top).problem(message)
    first = re.match(r"[\w.]*\w", message)
    place = locate(mapping, first[0].split(".") if first else (), top)
    return Problem(place.source, "", message, place.line)


# ------------------------------------------------------------------------------------------ problems


def _resolve(kind: Any, given: object, location: Iterable[int | str]) -> tuple[list[str], list[Any]]:
    """Return the dotted key of pydantic's location (which also names union branches) and the settings classes there.

    `given` is the mapping that was validated; a `name` in it decides the class of a choice.
    """
    key: list[str] = []
    classes: list[Any] = [kind]
    for part in location:
        fields = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
        if isinstance(part, int):
            key.append(str(part))
            given = given[part] if isinstance(given, Sequence) and part < len(given) else None
        elif part in fields:
            key.append(part)
            given = given.get(part) if isinstance(given, Mapping) else None
            classes = _classes(fields[part], part, given)
        elif any(part == cls.__name__ for cls in classes):  # a branch of a union, not a key of the file
            classes = [cls for cls in classes if part == cls.__name__]
        elif re.fullmatch(r"\w+", part) and part not in ("float", "int", "str", "bool", "list", "dict"):
            key.append(part)
            classes = []
    return key, classes


def _faults(error: ValidationError, kind: type, given: object) -> list[tuple[str, str]]:
    """Return the dotted key and the message of each fault."""
    found: list[tuple[str, str]] = []
    for detail in error.errors(include_url=False):
        location, value = detail["loc"], detail["input"]
        parts, classes = _resolve(kind, given, location)
        key, above, refused = ".".join(parts), ".".join(parts[:-1]), f"{_typed(value)} is not allowed"
        match detail["type"]:
            case "unexpected_keyword_argument" | "extra_forbidden":
                found.append((key, unknown(str(location[-1]), sorted(_keys(_resolve(kind, given, location[:-1])[1])))))
            case "value_error":
                found += [(key, line) for line in str(detail["ctx"]["error"]).splitlines()]
            case "union_tag_invalid":
                allowed = detail["ctx"]["expected_tags"].replace("'", "").split(", ")
                found.append((f"{key}.name", unknown(str(detail["ctx"]["tag"]), allowed, what="name")))
            case "missing" if isinstance(location[-1], int):
                found.append((above, f"{refused}: too few values"))
            case "missing":
                example = _example(_resolve(kind, given, location[:-1])[1], parts[-1])
                found.append(
                    (above, f"`{parts[-1]}` is missing: it has no default{example and f'; give {key}, {example}'}")
                )
            case "dataclass_type":
                mapping = f"a mapping with the keys {', '.join(_keys(classes))}"
                if found and found[-1][0] == key:  # the other branch of a union has added its fault
                    found[-1] = (key, f"{found[-1][1]}, or {mapping}")
                else:
                    found.append((key, f"{refused}: give {mapping}"))
            case "string_type" if isinstance(value, int | float):
                message = "YAML does not read it as a string; put it in quotes, for a shell in both kinds: '\"...\"'"
                found.append((key, f"{refused}: {message}"))
            case "tuple_type" | "list_type":
                found.append((key, f"{refused}: give a list, {_as_list(value)}"))
            case _:
                found.append((key, f"{refused}: {detail['msg'].lower()}"))
    return found


def _typed(value: object) -> str:
    """Return a value as YAML has it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _as_list(value: object) -> str:
    """Return what to type instead of `value`, which is no list: `seeds: 3` and `seeds=1,2` show what was meant."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number or (isinstance(value, str) and re.fullmatch(r"\w[\w.]*(, *\w[\w.]*)*", value)):
        return f"e.g. [{value}]"
    return "e.g. [0, 1, 2]"


def _example(classes: Iterable[Any], key: str) -> str:
    """Return an example of the value of the field `key`, if its `Field` has one."""
    for cls in classes:
        for one in getattr(typing.get_type_hints(cls, include_extras=True).get(key), "__metadata__", ()):
            if isinstance(one, FieldInfo) and one.examples:
                return f"e.g. {one.examples[0]}"
    return ""


def _keys(classes: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(field.name for cls in classes for field in dataclasses.fields(cls)))


def unknown(name: str, known: Sequence[str], what: str = "key") -> str:
    """Return the message about an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}: {hint}allowed: {', '.join(known)}"


# ------------------------------------------------------------------------------------------ classes


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types and the `ChosenByName` among the alternatives of an annotation."""
    if typing.get_origin(annotation) is Annotated:
        inner, *metadata = typing.get_args(annotation)
        return [one for one in metadata if isinstance(one, ChosenByName)] or _alternatives(inner)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        return [inner for part in typing.get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


def _held(kind: Any, key: str) -> list[Any]:
    """Return the alternatives in the annotation of the field `key` of the class `kind`."""
    return _alternatives(typing.get_type_hints(kind, include_extras=True)[key])


def _classes(kind: Any, key: str, given: object) -> list[Any]:
    """Return the settings classes that the field `key` of the class `kind` can have if its value is `given`."""
    held = (option.chosen(given) if isinstance(option, ChosenByName) else option for option in _held(kind, key))
    return [option for option in held if dataclasses.is_dataclass(option)]


def choices(kind: Any) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the settings in the class `kind` whose `name` chooses their class.

    `*` matches any key: a mapping with a `name` inside a choice counts as a choice too, so that no class has to be
    imported.
    """
    for field in dataclasses.fields(kind):
        for held in _held(kind, field.name):
            if isinstance(held, ChosenByName):
                yield from ((field.name,), (field.name, "*"))
            elif dataclasses.is_dataclass(held):
                yield from ((field.name, *path) for path in choices(held))
