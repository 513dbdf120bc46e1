"""Registries of parts, and the files outside of this package that their lines name."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fgssl.errors import UserError

REGISTRIES = (
    "fgssl.__main__:COMMANDS",
    "fgssl.data.sources:SOURCES",
    "fgssl.report.figures:FIGURES",
    "fgssl.settings.decoder:DECODERS",
    "fgssl.settings.evaluation:MEASURES",
    "fgssl.settings.methods:BASES",
    "fgssl.settings.methods:METHODS",
    "fgssl.settings.noise:VARIANTS",
    "fgssl.settings.training:OPTIMIZERS",
    "hpc.cluster.schedulers:SCHEDULERS",
)
"""Dotted path of each registry whose lines are dotted paths. None of these modules imports torch."""

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
    """Return the top-level modules outside of fgssl and hpc that registries name, by name; none is imported.

    A path is the folder of a package, or the file of a single module. A namespace package can have several folders, in
    the order in which Python searches them.
    """
    places: dict[str, str] = {}
    for path, place in _lines():
        places.setdefault(path.partition(":")[0].partition(".")[0], f"{place}: {path!r}")
    return [file for name in sorted(places.keys() - _NOT_OUTSIDE) for file in _files(name, places[name])]


def _files(name: str, place: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is not None and spec.submodule_search_locations is not None:
        return list(map(Path, spec.submodule_search_locations))
    if spec is not None and spec.origin is not None:
        return [Path(spec.origin)]
    raise UserError(
        f"{place} cannot be imported: no file holds module {name!r}: correct the line, or add the folder of the module "
        "to PYTHONPATH"
    )


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
