"""Sphinx extension that writes the reference of the settings from their classes.

A page holds a line `<!-- settings: module:Class prefix -->` and, for those who read its source, a line below it. An
entry for each field of that class replaces both: the dotted key, the type, the default, the attribute docstring. A
section for each settings class below it follows. `<!-- sources -->` gives a section for each source of images.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import pkgutil
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import annotated_types

from fgssl.data.source import Source
from fgssl.data.sources import SOURCES, source_named
from fgssl.settings.declare import ChosenByName
from fgssl.settings.evaluation import MEASURES, EvaluationSettings

PLACEHOLDER = re.compile(r"^<!-- settings: (\S+)(?: (\S+))? -->\n.*$", flags=re.M)
SOURCES_PLACEHOLDER = re.compile(r"^<!-- sources -->\n.*$", flags=re.M)
_NAMES = {int: "integer", float: "number", str: "string", bool: "true or false", type(None): "empty", Any: "any value"}


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


def _fill(app: Any, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def filled(text: str) -> str:
    """Return a page with its placeholders replaced."""
    seen: set[str] = set()
    text = PLACEHOLDER.sub(lambda found: section(pkgutil.resolve_name(found[1]), found[2] or "", seen), text)
    return SOURCES_PLACEHOLDER.sub(lambda _: "\n\n".join(map(_source, map(source_named, SOURCES))), text)


def _source(source: Source) -> str:
    keys = section(source.settings, "", set(), index=False)
    return f"## `{source.name}`\n\n{source.summary}\n\n```text\n{source.usage()}\n\n{source.how_to_get}\n```\n\n{keys}"


def section(cls: type, prefix: str, seen: set[str], level: int = 2, index: bool = True) -> str:
    """Return the entries of a settings class, then a section for each class that one of its fields holds."""
    entries, below = [], []
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        key, hint = f"{prefix}.{field.name}".removeprefix("."), hints[field.name]
        if get_origin(hint) is Literal and get_args(hint) == (field.default,):
            continue  # the name of a class that was chosen by it
        inner = list(_classes(hint))
        by_name = any(name for name, _ in inner)
        if by_name or not inner or documented(cls).get(field.name):
            entries.append(_entry(cls, field, key, hint, index and key not in seen))
            seen.add(key)
        below += [f"{'#' * level} `{key}`"] * bool(inner)
        for name, each in inner:
            below += [f"{'#' * (level + 1)} `{key}: {{name: {name}}}`"] * by_name
            below += [_text(inspect.getdoc(each), each), section(each, key, seen, level + 1 + by_name, index)]
    return "\n\n".join(filter(None, [*entries, *below]))


def _entry(cls: type, field: dataclasses.Field[Any], key: str, hint: Any, index: bool) -> str:
    options = [f":type: {described(hint)}"]
    if (default := _default(field)) is not None:
        options.append(f":default: {default}")
    if not index:  # a key that stands elsewhere too, e.g. of another method
        options.append(":no-index:")
    text = documented(cls).get(field.name, "")
    if not text and cls is EvaluationSettings and field.name in MEASURES:
        text = inspect.getdoc(pkgutil.resolve_name(MEASURES[field.name])) or ""
    return "\n".join([f"````{{confval}} {key}", *options, *(["", text] if text else []), "````"])


def _default(entry: dataclasses.Field[Any]) -> str | None:
    """Return a field's default as YAML, or None if it has none or is a section of its own."""
    if entry.default_factory is not dataclasses.MISSING:
        value = entry.default_factory()
    elif entry.default is not dataclasses.MISSING:
        value = entry.default
    else:
        return None
    if dataclasses.is_dataclass(value):
        return f"`{{name: {value.name}}}`" if hasattr(value, "name") else None
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_yaml(entry)}' for key, entry in value.items())}}}"
    return str(value)


def _classes(hint: Any) -> Iterator[tuple[str, type]]:
    """Yield the settings classes that a field may hold: the name that chooses each, or "", and the class."""
    if get_origin(hint) is Annotated:
        first, *rest = get_args(hint)
        choices = [note for note in rest if isinstance(note, ChosenByName)]
        if choices:
            yield from ((name, pkgutil.resolve_name(path)) for name, path in choices[0].registry.items())
        else:
            yield from _classes(first)
    elif dataclasses.is_dataclass(hint):
        yield "", typing.cast(type, hint)
    else:
        for argument in get_args(hint):
            if argument is not Ellipsis and get_origin(hint) is not Literal:
                yield from _classes(argument)


def described(hint: Any) -> str:
    """Return the type of a setting in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if any(isinstance(note, ChosenByName) for note in arguments[1:]):
            return "mapping with a `name`, see below"
        return f"{described(arguments[0])}{_bounds(arguments[1:])}"
    if origin is Literal:
        return _alternatives([f"`{_yaml(value)}`" for value in arguments])
    if origin in (typing.Union, types.UnionType):
        return _alternatives([described(argument) for argument in arguments])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {described(arguments[0])}"
        return f"list of {len(arguments)}: {', '.join(dict.fromkeys(map(described, arguments)))}"
    if origin in (dict, Mapping):
        return f"mapping of names to {described(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "mapping, see below"
    return _NAMES.get(hint, "any value")


def _alternatives(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _bounds(notes: tuple[Any, ...]) -> str:
    """Return the limits that pydantic's `Field` holds, e.g. ` > 0`."""
    metadata = itertools.chain.from_iterable(getattr(note, "metadata", ()) for note in notes)
    signs = {annotated_types.Gt: ">", annotated_types.Ge: "≥", annotated_types.Lt: "<", annotated_types.Le: "≤"}
    limits = [
        f"{sign} {getattr(limit, kind.__name__.lower()):g}"
        for limit in metadata
        for kind, sign in signs.items()
        if isinstance(limit, kind)
    ]
    return f" {' and '.join(limits)}" if limits else ""


@functools.cache
def documented(cls: type) -> Mapping[str, str]:
    """Return the docstring of each field of a class, those of its bases included."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        texts |= {
            ast.unparse(field.target): inspect.cleandoc(ast.literal_eval(text.value))
            for field, text in itertools.pairwise(tree.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and ClassVar.__name__ not in ast.unparse(field)
        }
    return texts


def _text(docstring: str | None, cls: type) -> str:
    """Return a class's docstring, or nothing where dataclass made it."""
    return "" if docstring is None or docstring.startswith(f"{cls.__name__}(") else docstring
