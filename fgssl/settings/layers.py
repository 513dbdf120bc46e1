"""Layers of settings, read from YAML files and the command line, with the place of each key.

A fault is found long after its file was read and merged with others. `locate` then returns the file, the line and the
key as the user wrote it there.
"""

import dataclasses
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import CoreSchema, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.resolver import BaseResolver

from fgssl.errors import COMMAND_LINE, Problem, SettingsError, alternatives


@dataclasses.dataclass(frozen=True)
class Place:
    """Source, line and key of something that a user wrote."""

    source: str
    """Path of the file, or `COMMAND_LINE`."""
    key: str = ""
    """Dotted key as it is written there, or empty for the file as a whole."""
    line: int | None = None
    """Line in the file, from 1; None on the command line."""

    def below(self, *parts: str) -> "Place":
        """Return the place of a key below this one, in the same line."""
        return dataclasses.replace(self, key=".".join(filter(None, [self.key, *parts])))

    def problem(self, message: str) -> Problem:
        """Return a problem at this place."""
        return Problem(self.source, self.key, message, self.line)


class Layer(dict[str, Any]):
    """Mapping of settings with the place of each key that a user wrote. Layers can be merged."""

    def __init__(
        self, content: Mapping[str, object] = MappingProxyType({}), places: Mapping[str, Place] | None = None
    ) -> None:
        """`places` holds the place of each key; None takes those of `content`, if it has any."""
        super().__init__(content)
        self.places = dict(getattr(content, "places", {}) if places is None else places)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """Return the schema by which a settings class holds a layer with its places."""
        return core_schema.no_info_wrap_validator_function(
            cls._validated, core_schema.dict_schema(core_schema.str_schema())
        )

    @classmethod
    def _validated(cls, given: Any, as_mapping: Callable[[object], object]) -> "Layer":
        as_mapping(given)
        return cls(given)

    def only(self, keys: Collection[str]) -> "Layer":
        """Return a copy that holds `keys` only."""
        return Layer({key: value for key, value in self.items() if key in keys}, self.places)

    def merge(self, above: Mapping[str, object], choices: Collection[tuple[str, ...]] = ()) -> "Layer":
        """Merge deeply into a new layer, in which `above` wins; a key of both has the place in `above`.

        `choices` holds the paths of settings whose `name` chooses a kind; `*` in a path matches any key. If `above`
        chooses another kind, the settings of this layer at that path are dropped.
        """
        another = () in choices and "name" in self and "name" in above and self["name"] != above["name"]
        below = Layer() if another else self
        merged = Layer(below, below.places | getattr(above, "places", {}))
        for key, value in above.items():
            old = merged.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping):
                value = Layer(old).merge(value, [path[1:] for path in choices if path and path[0] in (key, "*")])
            merged[key] = value
        return merged

    def override(self, above: "Layer", choices: Collection[tuple[str, ...]]) -> tuple["Layer", list[str]]:
        """Merge the command line into a new layer; return it, and a warning if another `name` drops settings."""
        merged = self.merge(above, choices)
        kept = merged.leaves()
        if dropped := [key for key in self.leaves() if not overlaps(key, kept)]:
            names = " and ".join(key for key in above.leaves() if key.rpartition(".")[2] == "name")
            return merged, [f"command line: another {names} drops these settings: {', '.join(dropped)}"]
        return merged, []

    def leaves(self) -> dict[str, object]:
        """Flatten to {dotted key: leaf}; an empty mapping counts as a leaf."""
        found: dict[str, object] = {}
        for key, value in self.items():
            inner = Layer(value).leaves() if isinstance(value, Mapping) else {}
            found |= {f"{key}.{leaf}": held for leaf, held in inner.items()} or {str(key): value}
        return found

    def at(self, key: str, otherwise: Any = None) -> Any:
        """Return the value at a dotted key, or `otherwise` if there is none."""
        inner: Any = self
        for part in key.split("."):
            if not isinstance(inner, Mapping) or part not in inner:
                return otherwise
            inner = inner[part]
        return inner


class LayerList(list[Any]):
    """List with the place of each item, by its index as text."""

    def __init__(self, items: Iterable[object], places: Mapping[str, Place]) -> None:
        super().__init__(items)
        self.places = dict(places)


def locate(content: Any, path: Sequence[str], top: Place) -> Place:
    """Return the place of the key at `path`, or of its nearest written parent, with the full key, if nobody wrote it.

    `top` is the place of `content` itself.
    """
    place, missing = top, tuple(path)
    for depth, part in enumerate(path, 1):
        if not isinstance(content, Layer | LayerList):
            break
        if part in content.places:
            place, missing = content.places[part], tuple(path[depth:])
        if isinstance(content, Layer):
            content = content.get(part)
        else:
            content = content[int(part)] if part in content.places else None
    return place.below(*missing)


# ------------------------------------------------------------------------------------------------ YAML


def read_yaml(path: Path) -> Layer:
    """Read a mapping from a YAML 1.2 file; raise a `SettingsError` if there is none or a key is given twice."""
    try:
        node = _composed(path.read_text(encoding="utf-8"))
        reader = _Reader(Place(str(path)))
        content = Layer() if node is None else reader.value(node, "")
    except FileNotFoundError:
        raise SettingsError([Problem(str(path), "", f"no such file: {alternatives(path)}")]) from None
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        raise SettingsError([_unreadable(str(path), error)]) from None
    if reader.problems:
        raise SettingsError(reader.problems)
    if content is None:
        return Layer()
    if not isinstance(content, Layer):
        raise SettingsError([Problem(str(path), "", f"must hold `key: value` pairs, not {_shown(content)}")])
    return content


def _shown(content: Any) -> str:
    return "a list" if isinstance(content, list) else repr(content)


def to_yaml(content: Mapping[str, object]) -> str:
    """Return plain values as YAML 1.2, which `read_yaml` reads back as the same values."""
    yaml = _yaml()
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = False, True, 120
    yaml.representer.sort_base_mapping_type_on_output = False
    for kind, plain in ((Layer, dict), (LayerList, list)):
        yaml.representer.add_representer(kind, yaml.representer.yaml_representers[plain])
    yaml.representer.add_representer(str, _as_scalar)
    text = io.StringIO()
    yaml.dump(content, text)
    return text.getvalue()


def _as_scalar(representer: Any, text: str) -> ScalarNode:
    """Return the node of a text; ruamel leaves some line breaks (NEL) unescaped outside of double quotes."""
    return representer.represent_scalar(f"{_CORE}str", text, style=None if text.isprintable() else '"')


_CORE = "tag:yaml.org,2002:"
_MERGE = f"{_CORE}merge"
_SCALARS = frozenset({"null", "bool", "int", "float", "str"})


class _CoreSchema(BaseResolver):
    """The core schema of YAML 1.2, even below a directive `%YAML 1.1`.

    ruamel's own resolver also reads dates, `=` and numbers with underscores, so that such a title would be no string.
    """

    processing_version = (1, 2)

    def __init__(self, version: object = None, loader: object = None, loadumper: object = None) -> None:
        """Take the arguments of ruamel's own resolvers; `version` has no effect."""
        super().__init__(loader or loadumper)


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
    ("merge", r"<<", ["<"]),
):
    _CoreSchema.add_implicit_resolver_base(f"{_CORE}{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # the C parser reads YAML 1.1
    yaml.Resolver = _CoreSchema
    return yaml


def _composed(text: str) -> Any:
    """Return the node of a YAML text, or None if it is empty; an anchor that is set twice is a fault like a key."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReusedAnchorWarning)
        try:
            return _yaml().compose(text)
        except ReusedAnchorWarning as warning:
            [(name, first, second)] = re.findall(r"anchor '(.*)'\n.*line (\d+)(?:.|\n)*line (\d+)", str(warning))
            raise ValueError(
                f"the anchor &{name} is given twice, in line {first} and in line {second}: rename one"
            ) from None


def _unreadable(source: str, error: Exception) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(source, "", "cannot be read as YAML: it is nested too deeply, or holds itself")
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    context = getattr(error, "context", None)
    message = " ".join(filter(None, [context, what])) or str(error)
    return Problem(source, "", f"cannot be read as YAML: {message}", mark.line + 1 if mark is not None else None)


def _slip(key: ScalarNode, value: Any) -> str | None:
    """Return the message about a key of `{...}` without a value, such as `{epochs:3}`, which holds no colon and space.

    Such a key would have the value null, which nobody wrote.
    """
    if not isinstance(value, ScalarNode) or value.value or value.style or value.tag != f"{_CORE}null":
        return None
    name, colon, rest = key.value.partition(":")
    if colon and key.style is None:
        return f"has no value: put a space after the colon, `{name}: {rest}`"
    return f"has no value: give one, `{key.value}: VALUE`; null must be written"


class _Reader:
    """Builder of plain values from the nodes of a YAML text, which collects faulty keys."""

    def __init__(self, top: Place) -> None:
        self._top = top
        self._constructor = _yaml().constructor
        self.problems: list[Problem] = []

    def value(self, node: Any, key: str) -> Any:
        """Return the plain value of the node at the dotted `key`."""
        if isinstance(node, MappingNode) and node.tag == f"{_CORE}map":
            return self._mapping(node, key)
        if isinstance(node, SequenceNode) and node.tag == f"{_CORE}seq":
            keys = [f"{key}.{index}" for index in range(len(node.value))]
            places = {str(index): self._place(item, keys[index]) for index, item in enumerate(node.value)}
            return LayerList(map(self.value, node.value, keys), places)
        return self._plain(node)

    def _plain(self, node: Any) -> Any:
        if not isinstance(node, ScalarNode) or str(node.tag).removeprefix(_CORE) not in _SCALARS:
            message = f"the tag {str(node.tag).replace(_CORE, '!!')} is not allowed: leave it out"
            raise ConstructorError(problem=message, problem_mark=node.start_mark)
        try:
            return self._constructor.construct_object(node, deep=True)
        except (LookupError, AttributeError, TypeError):  # a tag on a text that it does not fit, e.g. `!!bool foo`
            message = f"{node.value!r} does not fit the tag {str(node.tag).replace(_CORE, '!!')} before it"
            raise ConstructorError(problem=message, problem_mark=node.start_mark) from None

    def _mapping(self, node: MappingNode, key: str) -> Layer:
        written = Layer()
        own: dict[str, Place] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.problems.append(
                    self._place(key_node, key).problem("a key must be a name, not a list or a mapping")
                )
                continue
            name = self._name(key_node)
            inner = f"{key}.{name}".removeprefix(".")
            place = self._place(key_node, inner)
            if name in own:
                first = f" (first in line {own[name].line})" if place.line is not None else ""
                self.problems.append(place.problem(f"this key is given twice{first}: keep one of them"))
            own[name] = place
            if key_node.tag == _MERGE:
                below = self._merged(value_node, key)
                written = Layer({**below, **written}, {**below.places, **written.places})
                continue
            if node.flow_style and (fault := _slip(key_node, value_node)):
                self.problems.append(place.problem(fault))
            written[name] = self.value(value_node, inner)
            written.places[name] = place
        return written

    def _name(self, node: ScalarNode) -> str:
        """Return the text of a key: an arm may be named `true` or `null`, and accents may be composed or not."""
        if node.tag != _MERGE:
            self._plain(node)  # a tag must fit
        return unicodedata.normalize("NFC", node.value)

    def _merged(self, node: Any, key: str) -> Layer:
        """Return the mapping that `<<` merges; of several, the first wins."""
        merged = Layer()
        for item in node.value if isinstance(node, SequenceNode) else [node]:
            below = self.value(item, key)
            if not isinstance(below, Layer):
                raise ValueError("`<<` takes a mapping or a list of mappings")
            merged = Layer({**below, **merged}, {**below.places, **merged.places})
        return merged

    def _place(self, node: Any, key: str) -> Place:
        line = None if self._top.source == COMMAND_LINE else node.start_mark.line + 1
        return Place(self._top.source, key, line)


# -------------------------------------------------------------------------------------------- command line


def parse_overrides(overrides: Sequence[str]) -> Layer:
    """Read overrides such as `["a.b=1"]` as a mapping of dotted keys to values, in order.

    A value that begins with `[`, `{`, a quote or `!` is read as YAML. Any other is one plain value, even if it contains
    `#` or `: `. An empty one is a fault.
    """
    parsed, problems = Layer(), list[Problem]()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = unicodedata.normalize("NFC", key)
        place = Place(COMMAND_LINE, key)
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", key):
            problems.append(Problem(COMMAND_LINE, override, "an override must have the form key.path=value"))
            continue
        if key in parsed.places:
            problems.append(place.problem("this key is given twice: keep one of them"))
        parsed.places[key] = place
        if re.search("[\ud800-\udfff]", text):  # Python's stand-ins for bytes of the command line
            problems.append(
                place.problem(f"{text!r}: holds bytes that are not UTF-8, as all records are: type it anew")
            )
            continue
        if not text.strip():  # often a variable of the shell that is not set
            problems.append(place.problem("has no value: give one, or null to empty it"))
            continue
        reader = _Reader(place)
        try:
            parsed[key] = reader.value(_value_node(text.strip()), key)
        except (ValueError, YAMLError, RecursionError) as error:
            problems.append(place.problem(f"{text!r}: {_unreadable(COMMAND_LINE, error).message}"))
        problems += reader.problems
    if problems:
        raise SettingsError(problems)
    return parsed


def _value_node(text: str) -> Any:
    if text.startswith(("[", "{", '"', "'", "!")):
        return _composed(text)
    return ScalarNode(_yaml().resolver.resolve(ScalarNode, text, (True, False)), text)


# ------------------------------------------------------------------------------------------- dotted keys


def overlaps(key: str, others: Iterable[str]) -> bool:
    """Return whether the dotted key is one of `others`, or lies below or above one."""
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in others)


def nested(path: str | Sequence[str], value: object, place: Place | None = None) -> Layer:
    """Return the layer `{"a": {"b": 1}}` for the path "a.b" (or its parts) and the value 1, written at `place`."""
    *above, last = path.split(".") if isinstance(path, str) else path
    layer = Layer({last: value}, {} if place is None else {last: place})
    if not above:
        return layer
    return nested(
        above, layer, place and dataclasses.replace(place, key=place.key.removesuffix(last).removesuffix("."))
    )
