"""Digests of what a report is made of, so that only what changed is made again."""

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


def of_needs(records: Records, needs: Collection[str]) -> str:
    """Return the digest of the records that a figure needs; files of runs count by their size and time."""
    tables = [records["rows"]] if OF_TABLES & {*needs} - {"plan"} else []
    files = [] if {*needs} <= OF_TABLES else [_files(records), _shards(records)]
    return digest(asdict(records["plan"]), tables, files)


def _libraries() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def _files(records: Records) -> list[tuple[str, int, int]]:
    """Return the size and time of each file of the runs that are trained."""
    stamps = []
    for cell in records["plan"].cells:
        for run in cell.runs:
            folder = RunFolder.in_output(records.out, run.run)
            if folder.trained() is None:
                continue
            for file in sorted(folder.path.glob("[!.]*.*")):
                if file.suffix in _READ and file.name != "progress.json":
                    stamps.append((str(file.relative_to(records.out)), file.stat().st_size, file.stat().st_mtime_ns))
    return stamps


def _shards(records: Records) -> dict[str, tuple[int, int] | None]:
    """Return the size and time of the manifest in each folder of shards, or None if there is none."""
    found: dict[str, tuple[int, int] | None] = {}
    for cell in records["plan"].cells:
        for run in cell.runs:
            folder = shards_of(run.config, records.out)
            file = None if folder is None else folder / MANIFEST
            there = file is not None and file.is_file()
            found[str(run.config.data.folder)] = _stamp(file) if there and file is not None else None
    return found


def _stamp(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns
