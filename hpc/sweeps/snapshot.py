"""Frozen copy of the code, which jobs run whatever is edited while they wait or run."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fgssl
import hpc
from fgssl.errors import UserError
from fgssl.registries import INSTALLED, files_outside
from fgssl.store.provenance import python_files

_OURS = {"fgssl", "hpc"}
_CACHES = {"__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
_LIMIT_MB = 50


def packages() -> list[Path]:
    """Return the folders of the packages, and the files of single modules, that a job imports from the frozen copy.

    Parts in site-packages are left out like other libraries, since they may hold data or compiled code.
    """
    parts = [file for file in files_outside() if not INSTALLED.intersection(file.parts)]
    return [Path(package.__path__[0]) for package in (fgssl, hpc)] + parts


def content_hash(sources: Sequence[Path]) -> str:
    """Return the hash of names and content of all files that are copied, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, file in _files(sources).items():
        content = file.read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def freeze(sources: Sequence[Path], code: Path) -> Path:
    """Copy the packages to `code`/<version> unless it exists, and return that folder, the PYTHONPATH of jobs.

    The copy is made beside and renamed, so that the folder is whole whenever it exists, even with two sweeps at once.
    """
    frozen = code / content_hash(sources)
    if frozen.is_dir():
        return frozen
    try:
        code.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=code, prefix=".") as temporary:
            copy = Path(temporary) / frozen.name
            for name, file in _files(sources).items():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy / name)
            if (copied := content_hash([copy / source.name for source in sources])) != frozen.name:
                raise UserError(f"{copy}: the code was edited while it was copied ({copied}): run the command again")
            if not frozen.is_dir():
                _rename(copy, frozen)
    except OSError as error:
        raise UserError(f"{code}: the code cannot be copied here: {error.strerror}") from error
    return frozen


def _files(sources: Sequence[Path]) -> dict[str, Path]:
    """Return the files to copy: Python files of our packages and single modules, all files of other packages."""
    files = python_files(sources)
    for source in sources:
        if source.name not in _OURS and source.is_dir():
            for file in _all_files(source):
                files.setdefault(file.relative_to(source.parent).as_posix(), file)
    return dict(sorted(files.items()))


def _all_files(package: Path) -> list[Path]:
    """Return the files of a package without caches; raise a `UserError` if they are too large to copy."""
    files: list[Path] = []
    size = 0
    for folder, subfolders, names in os.walk(package):
        subfolders[:] = [name for name in subfolders if name not in _CACHES]
        here = [file for name in names if (file := Path(folder, name)).is_file() and file.suffix != ".pyc"]
        files += here
        size += sum(file.stat().st_size for file in here)
        if size > _LIMIT_MB * 10**6:
            raise UserError(
                f"{package}: has more than {_LIMIT_MB} MB of files, and each sweep copies them for its jobs: move data "
                "and outputs out of this package"
            )
    return files


def _rename(copy: Path, frozen: Path) -> None:
    try:
        copy.rename(frozen)
    except OSError:
        if not frozen.is_dir():  # otherwise another sweep was faster, with the same content
            raise
