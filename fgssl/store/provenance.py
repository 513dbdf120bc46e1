"""Provenance of a result: the versions of its code and libraries."""

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path

from fgssl.registries import files_outside
from fgssl.store.records import Environment

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "h5py")
_IF_INSTALLED = ("opencv-python-headless", "simplejpeg", "triton", "deepspeed")


@functools.cache
def code_version() -> str:
    """Return the hash of this package's source files and of parts outside of it that registries name.

    It has 12 hexadecimal digits and does not depend on the folders of the files.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode())
        digest.update(file.read_bytes())
    for name, file in python_files(files_outside()).items():
        digest.update(name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def python_files(modules: Iterable[Path]) -> dict[str, Path]:
    """Return the Python files of modules, each a folder or a file, by their path from the folder of the module.

    Of two files with one name Python imports the first, and so the first is returned.
    """
    files: dict[str, Path] = {}
    for module in modules:
        for file in module.rglob("*.py") if module.is_dir() else [module]:
            files.setdefault(file.relative_to(module.parent).as_posix(), file)
    return dict(sorted(files.items()))


def versions() -> dict[str, str]:
    """Return the versions of Python and libraries and the name of the processor. Equal bits need all of them equal."""
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    for name in _IF_INSTALLED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"python": platform.python_version(), **found, "processor": _processor()}


def environment(processes: int, engine: str, threads: int, device: str, denormals: str) -> Environment:
    """Return the environment of this launch of a training.

    `threads` is the number in each process, `device` the name of the GPU or `cpu`, and `denormals` states whether they
    are `flushed` or `kept`.
    """
    return Environment(
        code_version=code_version(),
        processes=processes,
        engine=engine,
        threads=threads,
        device=device,
        versions={**versions(), "denormals": denormals},
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
