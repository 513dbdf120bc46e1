"""Inputs of a plan's runs: are they there, or drawn now, and are they those that finished runs were made from?"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from fgssl.data.location import ensure_toy, shards_folder, toy_manifest
from fgssl.errors import DataError, UserError
from fgssl.progress import shown
from fgssl.settings.config import StartSource
from fgssl.store.files import file_sha256
from fgssl.store.manifest import MANIFEST, Manifest
from fgssl.store.records import Trained
from fgssl.store.requirements import cautions, unmet
from fgssl.store.run_folder import RunFolder, start_file
from hpc.sweeps.plan import SweepRun
from hpc.sweeps.state import run_folder


def check_inputs(runs: Sequence[SweepRun], out: Path, gpus: Sequence[str] | None) -> None:
    """Raise one `UserError` with all `input_problems`, if there are any."""
    if problems := input_problems(runs, out, gpus):
        raise UserError("\n".join(problems))


def input_problems(runs: Sequence[SweepRun], out: Path, gpus: Sequence[str] | None) -> list[str]:
    """Return all that unfinished runs lack, then the finished runs whose inputs have changed; each once.

    `gpus` are those that jobs may use; None where jobs run elsewhere. Nothing is written.
    """
    missing: list[str] = []
    changed: list[str] = []
    planned = {run.run for run in runs}
    manifest, sha256 = functools.cache(_manifest), functools.cache(file_sha256)
    for run in runs:
        folder = run_folder(run, out)
        done, record = folder.done(run.config), folder.trained()
        if run.config.resources.device == "cuda" and gpus is not None and not gpus and not done:
            missing.append("resources.device: cuda: this machine has no GPU that jobs may use; take auto or cpu")
        try:
            shards = shards_folder(run.config.data, out / "data")
            present = manifest(shards)
        except DataError as error:
            # Shards that are gone are no matter to a finished run; other ones in their place are.
            missing += [] if done and not _packed(run.config.data.folder) else [str(error)]
        else:
            missing += [] if done else unmet(run.config, present or toy_manifest(run.config.data.toy))
            changed += _other_data(record, present, shards, folder.path)
        for role, source in run.config.start.sources.items():
            file = start_file(source, role, out / "runs")
            lacking = [] if done else _missing_start(role, source, file, foreign=source.run not in planned)
            missing += lacking
            changed += [] if lacking else _other_weights(record, role, file, sha256, folder.path)
    return list(dict.fromkeys([*missing, *changed]))


def input_cautions(runs: Sequence[SweepRun], out: Path) -> list[str]:
    """Return warnings about the data of unfinished runs; each once. Nothing is written."""
    found: list[str] = []
    manifest = functools.cache(_manifest)
    for run in runs:
        if run_folder(run, out).done(run.config):
            continue
        try:
            present = manifest(shards_folder(run.config.data, out / "data"))
        except DataError:  # among the `input_problems`
            continue
        found += cautions(run.config, present or toy_manifest(run.config.data.toy))
    return list(dict.fromkeys(found))


def draw_inputs(runs: Sequence[SweepRun], out: Path) -> None:
    """Draw the embedded sets that runs train on, before the first of them would."""
    for data in {run.config.data for run in runs}:
        if data.embedded:
            ensure_toy(data, out / "data", shown)


def _packed(folder: str | None) -> bool:
    return folder is not None and (Path(folder).expanduser() / MANIFEST).is_file()


def _missing_start(role: str, source: StartSource, file: Path, foreign: bool) -> list[str]:
    """Return what keeps an unfinished run from its start weights; `foreign` if no run of the plan makes them."""
    if source.run is None and not file.is_file():
        return [f"start.{role}.file: {file}: no such file; give the path of a weights file: start.{role}.file=PATH"]
    if source.run is None or not foreign or (RunFolder(file.parent).trained() is not None and file.is_file()):
        return []
    return [
        f"start.{role}.run: {source.run}: {file}: not there, or its training is not complete; give the name of a "
        f"trained run in {file.parent.parent}, or a stage of the sweep: start.{role}.stage=NAME"
    ]


def _other_weights(
    record: Trained | None, role: str, file: Path, sha256: Callable[[Path], str], folder: Path
) -> list[str]:
    recorded = record.start.get(role) if record is not None else None
    if recorded is None or not file.is_file() or recorded == sha256(file):
        return []
    return [
        f"{folder}: trained from another start.{role}: {file} has changed since; put the old file back, or delete this "
        "run folder, or choose another --out"
    ]


def _other_data(record: Trained | None, present: Manifest | None, shards: Path, folder: Path) -> list[str]:
    if record is None or present is None or record.data_version == present.version:
        return []
    return [
        f"{folder}: trained on other data: version {record.data_version[:12]}, and {shards} now holds "
        f"{present.version[:12]}; give the old shards as data.folder, or choose another --out"
    ]


def _manifest(shards: Path) -> Manifest | None:
    """Return the manifest, or None for the embedded set before its first use."""
    return Manifest.read(shards) if (shards / MANIFEST).exists() else None
