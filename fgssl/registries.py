"""Registries of parts, and the files outside of this package that their lines name."""

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from fgssl.errors import UserError

REGISTRIES = (
    "fgssl.__main__:COMMANDS",
    "fgssl.data.sources:SOURCES",
    "fgssl.report.figures:FIGURES",
    "fgssl.settings.decoder:DECODERS",
    "fgssl.settings.evaluation:MEASURES",
    "fgssl.settings.feature_maps:CONTRASTED",
    "fgssl.settings.feature_maps:FOLLOWED",
    "fgssl.settings.methods:BASES",
    "fgssl.settings.methods:METHODS",
    "fgssl.settings.noise:VARIANTS",
    "fgssl.settings.training:OPTIMIZERS",
    "hpc.cluster.schedulers:SCHEDULERS",
)
"""Dotted path of each registry whose lines are dotted paths. None of these modules imports torch."""

INSTALLED = {"site-packages", "dist-packages"}
"""Names of the folders that hold installed libraries."""
_NOT_OUTSIDE = {"fgssl", "hpc", "torch", *sys.stdlib_module_names}  # records have the versions of torch and Python


class Registry(dict[str, str]):
    """Dotted paths, `module:attribute`, of parts of one kind by name. A part is imported when it is chosen."""

    def __init__(self, place: str, paths: Mapping[str, str]) -> None:
        super().__init__(paths)
        self.place = place

    def load(self, name: str) -> Any:
        """Import the part of that name and return it."""
        return load(self[name], f"{self.place}[{name!r}]")


def load(path: str, place: str) -> Any:
    """Import the object at a dotted path and return it. `place` is the line that gives the path, for messages."""
    try:
        return _resolve(path)
    except UserError:
        raise
    except Exception as error:
        if (file := _raised_in(error)) is not None:
            raise UserError(
                f"{place}: {path!r} cannot be imported: {file}: {type(error).__name__}: {error}: correct that file, or "
                "install what it needs"
            ) from error
        raise UserError(
            f"{place}: {path!r} cannot be imported: {error}: correct the line, or add the folder of the module to "
            "PYTHONPATH"
        ) from error


def load_implementation(settings: Any) -> Any:
    """Import what the settings class of a part names as its `implementation`, and return it."""
    return load(settings.implementation, _place_of_implementation(type(settings)))


def files_outside() -> list[Path]:
    """Return the top-level modules outside of fgssl and hpc that parts need, by name; none is imported.

    These are the modules that lines of registries name, the modules that they name as an `implementation`, and the
    modules beside them that they import. A path is the folder of a package, or the file of a single module. A namespace
    package can have several folders, in the order in which Python searches them.
    """
    found: dict[str, list[Path]] = {}
    ahead = list(_lines())
    registered = {path.partition(":")[2] for path, _ in ahead}
    while ahead:
        path, place = ahead.pop(0)
        name = _top_level(path)
        if name not in found and name not in _NOT_OUTSIDE:
            found[name] = _files(name, f"{place}: {path!r}")
            ahead += [needed for file in found[name] for needed in _needed(file, registered)]
    return [file for name in sorted(found) for file in found[name]]


def _top_level(path: str) -> str:
    """Return the top-level module of a dotted path."""
    return path.partition(":")[0].partition(".")[0]


def _files(name: str, place: str) -> list[Path]:
    if found := _found(name):
        return found
    raise UserError(
        f"{place} cannot be imported: no file holds module {name!r}: correct the line, or add the folder of the module "
        "to PYTHONPATH"
    )


def _found(name: str) -> list[Path]:
    """Return the folders or the file that Python finds for a top-level module, or nothing."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        return list(map(Path, spec.submodule_search_locations))
    return [Path(spec.origin)] if spec is not None and spec.origin is not None else []


def _needed(module: Path, registered: Set[str]) -> Iterator[tuple[str, str]]:
    """Yield each implementation that a module outside names, and each module beside that it imports, with the place.

    An implementation that no file holds is left out unless its class is `registered`: nothing chooses other classes.
    """
    installed = not INSTALLED.isdisjoint(module.parts)  # beside it lie all libraries
    for file in sorted(module.rglob("*.py")) if module.is_dir() else [module]:
        for node in _syntax(file):
            place = f"{file}:{getattr(node, 'lineno', 0)}"
            match node:
                case ast.ClassDef(body=body):
                    for path in _implementations(body):
                        if node.name in registered or _found(_top_level(path)):
                            yield path, f"{place}: {node.name}.implementation"
                case ast.Import(names=names) if not installed:
                    yield from ((name.name, place) for name in names if _is_beside(module, name.name))
                case ast.ImportFrom(module=str(name), level=0) if not installed and _is_beside(module, name):
                    yield name, place


def _syntax(file: Path) -> list[ast.AST]:
    """Return all nodes of a Python file, or none if it has an error, which the import reports."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return []


def _implementations(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="implementation")], value=ast.Constant(value=str(path)))
                | ast.AnnAssign(target=ast.Name(id="implementation"), value=ast.Constant(value=str(path)))
            ) if re.fullmatch(r"[\w.]+:[\w.]+", path):
                yield path


def _is_beside(module: Path, name: str) -> bool:
    return any(found.parent == module.parent for found in _found(_top_level(name)))


def _lines() -> Iterator[tuple[str, str]]:
    """Yield the dotted path and the place of each line of each registry, and of implementations of our settings."""
    for registry in REGISTRIES:
        module_name, _, name = registry.partition(":")
        module = importlib.import_module(module_name)
        for key, line in getattr(module, name).items():
            place = f"{module.__file__}: {name}[{key!r}]"
            for path in line.values() if isinstance(line, Mapping) else [line]:
                yield path, place
                if path.startswith("fgssl.settings."):  # imports no torch
                    cls = load(path, place)
                    if (implementation := getattr(cls, "implementation", None)) is not None:
                        yield implementation, _place_of_implementation(cls)


def _place_of_implementation(cls: type) -> str:
    return f"{inspect.getfile(cls)}: {cls.__name__}.implementation"


@functools.cache  # a plan chooses the same classes once for each run
def _resolve(path: str) -> Any:
    try:
        return pkgutil.resolve_name(path)
    except AttributeError:
        if ":" not in path:  # resolve_name drops the reason why a module cannot be imported
            importlib.import_module(path)
        raise


def _raised_in(error: Exception) -> str | None:
    """Return file and line of the imported code that raised the error, or None if the import did not get so far."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    ours = (__file__, pkgutil.__file__, importlib.__file__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename not in ours and not frame.filename.startswith("<frozen importlib"):
            return f"{frame.filename}:{frame.lineno}"
    return None
