"""Frozen copy of the code, which jobs run whatever is edited while they wait or run."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import fgssl
import hpc
from fgssl.errors import UserError


def packages() -> list[Path]:
    """Return the folders of the packages that a job imports, as this process imports them."""
    return [Path(package.__path__[0]) for package in (fgssl, hpc)]


def content_hash(sources: Sequence[Path]) -> str:
    """Return the hash of names and content of all Python files in the packages, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, file in _python_files(sources):
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
            for name, file in _python_files(sources):
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


def _python_files(sources: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for source in sorted(sources, key=lambda source: source.name):
        for file in sorted(source.rglob("*.py")):
            yield str(Path(source.name) / file.relative_to(source)), file
