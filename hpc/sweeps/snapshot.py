"""Frozen copy of the code, which jobs run whatever is edited while they wait or run."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fgssl
import hpc
from fgssl.errors import UserError
from fgssl.registries import files_outside
from fgssl.store.provenance import python_files

_INSTALLED = {"site-packages", "dist-packages"}


def packages() -> list[Path]:
    """Return the folders of the packages, and the files of single modules, that a job imports from the frozen copy.

    Parts in site-packages are left out like other libraries, since they may hold data or compiled code.
    """
    parts = [file for file in files_outside() if not _INSTALLED.intersection(file.parts)]
    return [Path(package.__path__[0]) for package in (fgssl, hpc)] + parts


def content_hash(sources: Sequence[Path]) -> str:
    """Return the hash of names and content of all Python files in the packages, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, file in python_files(sources).items():
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
            for name, file in python_files(sources).items():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy / name)
            if (copied := content_hash([copy / source.name for source in sources])) != frozen.name:
                raise UserError(f"{copy}: the code was edited while it was copied ({copied}): run the command again")
            if not frozen.is_dir():
                _rename(copy, frozen)
    except OSError as error:
        raise UserError(f"{code}: the code cannot be copied here: {error.strerror}") from error
    return frozen


def _rename(copy: Path, frozen: Path) -> None:
    try:
        copy.rename(frozen)
    except OSError:
        if not frozen.is_dir():  # otherwise another sweep was faster, with the same content
            raise
