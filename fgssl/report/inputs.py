"""Digests of what a report is made of, so that only what changed is made again."""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from fgssl.report.figures.records import Records, shards_of
from fgssl.store.manifest import MANIFEST
from fgssl.store.provenance import code_version
from fgssl.store.run_folder import RunFolder

LIBRARIES = ("matplotlib", "openTSNE", "scikit-learn")
OF_TABLES = frozenset({"plan", "rows", "table"})
"""Records that are made of the plan and the records of runs alone."""
_READ = (".safetensors", ".npz", ".json", ".jsonl")
"""Suffixes of the files of a complete run from which figures are drawn."""


def digest(*parts: object) -> str:
    """Return a hash of parts that JSON can hold, of the code and of the libraries that draw."""
    text = json.dumps([code_version(), _libraries(), *parts], default=str, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Inputs:
    """Digests of the records of a sweep; each is computed once, however many figures need it."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def of_needs(self, needs: Collection[str]) -> str:
        """Return the digest of the records that a figure needs; files of runs count by their size and time."""
        tables = self._rows if OF_TABLES & {*needs} - {"plan"} else ""
        files = "" if {*needs} <= OF_TABLES else self._files
        return digest(self._plan, tables, files)

    @functools.cached_property
    def _plan(self) -> str:
        return digest(asdict(self.records["plan"]))

    @functools.cached_property
    def _rows(self) -> str:
        return digest(self.records["rows"])

    @functools.cached_property
    def _files(self) -> str:
        """Digest of the files of the runs that are trained, and of the manifests of their shards."""
        stamps: dict[str, tuple[int, int] | None] = {}
        for run in (run for cell in self.records["plan"].cells for run in cell.runs):
            shards = shards_of(run.config, self.records.out)
            if shards is not None:
                stamps[str(run.config.data.folder or shards.name)] = _stamp(shards / MANIFEST)
            folder = RunFolder.in_output(self.records.out, run.run)
            if folder.trained() is not None:
                files = [file for file in folder.path.glob("[!.]*.*") if file.suffix in _READ]
                stamps |= {f"{run.run}/{file.name}": _stamp(file) for file in files if file.name != "progress.json"}
        return digest(stamps)


def _stamp(file: Path) -> tuple[int, int] | None:
    """Return the size and time of a file, or None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _libraries() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found
