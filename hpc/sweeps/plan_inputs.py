"""Inputs of a plan's runs: data and start weights that are missing, doubtful, or changed since runs were made."""

import functools
import importlib.util
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fgssl.data.location import ensure_toy, shards_folder, toy_manifest
from fgssl.errors import COMMAND_LINE, DataError, UserError, alternatives
from fgssl.progress import shown
from fgssl.settings.config import Config, StartSource
from fgssl.settings.fingerprints import to_mapping
from fgssl.settings.layers import Layer, Place, locate
from fgssl.store.files import file_sha256, unreadable
from fgssl.store.manifest import MANIFEST, Manifest
from fgssl.store.records import Trained
from fgssl.store.requirements import absent_trackers, cautions, unmet
from fgssl.store.run_folder import RunFolder, start_file
from hpc.sweeps.output_folder import replaced_plan
from hpc.sweeps.plan import SweepPlan, SweepRun
from hpc.sweeps.state import run_folder

_NOWHERE = Layer()
_SHOWN_SHARDS = 3
_WEIGHTS_PAGE = "published-encoders.md"


def check_inputs(runs: Sequence[SweepRun], out: Path, gpus: Sequence[str] | None, written: Layer = _NOWHERE) -> None:
    """Raise one `UserError` with all `input_problems` if there are any."""
    if problems := input_problems(runs, out, gpus, written):
        raise UserError("\n".join(problems))


def input_problems(
    runs: Sequence[SweepRun], out: Path, gpus: Sequence[str] | None, written: Layer = _NOWHERE
) -> list[str]:
    """Return a line for each thing that unfinished runs lack, and for each trained run whose inputs have changed.

    `gpus` lists the GPUs that jobs may use, or is None if jobs run on other machines. `written` holds the settings of
    all runs with their places, which the lines then name. Nothing is written.
    """
    missing: list[str] = []
    changed: list[str] = []
    planned = {run.run for run in runs}
    manifest, sha256 = functools.cache(_manifest), functools.cache(file_sha256)
    damaged = functools.cache(_damaged_shards)
    for run in runs:
        folder = run_folder(run, out)
        done, record = folder.done(run.config), folder.trained()
        lacking = [] if done else _absent_trackers(run.config, gpus)
        if run.config.resources.device == "cuda" and gpus is not None and not gpus and not done:
            lacking.append("resources.device: cuda: this machine has no GPU that jobs may use; take auto or cpu")
        try:
            shards = shards_folder(run.config.data, out / "data")
            present = manifest(shards)
        except DataError as error:
            # A finished run needs no shards, but other shards in their place would not be its own.
            lacking += [] if done and not _packed(run.config.data.folder) else str(error).splitlines()
        else:
            lacking += [] if done else unmet(run.config, present or toy_manifest(run.config.data.toy))
            lacking += [] if done or present is None else damaged(shards, run.config.data.stage is not None)
            changed += _other_data(record, present, shards, f"{folder.path} ({run.label})")
        for role, source in run.config.start.sources.items():
            file = start_file(source, role, out / "runs")
            absent = [] if done else _missing_start(role, source, file, foreign=source.run not in planned)
            lacking += absent
            changed += [] if absent else _other_weights(record, role, file, sha256, f"{folder.path} ({run.label})")
        missing += [_placed(line, written, run.config) for line in lacking]
    return _longest([*missing, *changed])


def _absent_trackers(config: Config, gpus: Sequence[str] | None) -> list[str]:
    """Return a line for each tracker that is not installed; none if jobs have another Python, one with torch."""
    has_torch = gpus is not None or importlib.util.find_spec("torch") is not None
    return absent_trackers(config) if has_torch else []


def _longest(lines: Sequence[str]) -> list[str]:
    """Return the lines, each once, without those of the same fault that give advice for fewer settings.

    Synthesized pairs without noise are their base method alone, whose settings the sweep has below `method.base`.
    """
    once = list(dict.fromkeys(lines))

    def told(line: str) -> bool:
        of_base = (other.replace("method.base.", "method.") for other in once if "method.base." in other)
        return any(other.startswith((f"{line}, ", f"{line}: ")) for other in once) or line in of_base

    return [line for line in once if not told(line)]


def _placed(line: str, written: Layer, config: Config) -> str:
    """Return a line that opens with the dotted key of a setting of `config`, with its place if it stands in `written`.

    A setting of an arm or a stage alone has another value, or none, in `written`.
    """
    key, _, message = line.partition(": ")
    value = written.at(key)
    if value is None or value != to_mapping(config).at(key):
        return line
    return str(locate(written, key.split("."), Place(COMMAND_LINE)).problem(message))


def warn_of_inputs(plan: SweepPlan, out: Path) -> list[str]:
    """Print the warnings about the output folder, the command line and the data to stderr, and return them."""
    warnings = [*replaced_plan(plan, out), *plan.grid.cautions, *input_cautions(plan.runs, out)]
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    return warnings


def input_cautions(runs: Sequence[SweepRun], out: Path) -> list[str]:
    """Return warnings about the data of unfinished runs, each once. Nothing is written."""
    found: list[str] = []
    manifest = functools.cache(_manifest)
    for run in runs:
        if run_folder(run, out).done(run.config):
            continue
        try:
            present = manifest(shards_folder(run.config.data, out / "data"))
        except DataError:  # `input_problems` reports it
            continue
        found += cautions(run.config, present or toy_manifest(run.config.data.toy))
    return list(dict.fromkeys(found))


def draw_inputs(runs: Sequence[SweepRun], out: Path) -> None:
    """Draw and pack the built-in datasets on which runs train, before any run starts."""
    for data in {run.config.data for run in runs}:
        if data.embedded:
            ensure_toy(data, out / "data", shown)


def _damaged_shards(shards: Path, copied: bool) -> list[str]:
    """Return a line if shards that runs read, or all where runs copy them, are missing or have another size."""
    found, manifest = list[str](), Manifest.read(shards)
    splits = [each for split, each in manifest.splits.items() if copied or split in ("train", "test")]
    for shard in itertools.chain.from_iterable(splits):
        try:
            size = (shards / shard.file).stat().st_size
        except FileNotFoundError:
            found.append(f"{shard.file} is missing")
        except OSError as error:
            found.append(unreadable(shards / shard.file, error))
        else:
            if size != shard.bytes:
                found.append(f"{shard.file} has {size} bytes instead of {shard.bytes}")
    if not found:
        return []
    more = [f"and {len(found) - _SHOWN_SHARDS} more"] if len(found) > _SHOWN_SHARDS else []
    return [
        f"data.folder: {shards} is incomplete: {'; '.join([*found[:_SHOWN_SHARDS], *more])}: copy it again with all "
        "its files, or pack the dataset again"
    ]


def _packed(folder: str | None) -> bool:
    return folder is not None and (Path(folder).expanduser() / MANIFEST).is_file()


def _missing_start(role: str, source: StartSource, file: Path, foreign: bool) -> list[str]:
    """Return a line if start weights of an unfinished run are missing; `foreign` ones come from outside the plan."""
    if source.run is None and not file.is_file():
        how = f" (docs/how-to/{_WEIGHTS_PAGE} shows how to get weights)" if role == "encoder" else ""
        return [f"start.{role}.file: {file}: no such file: {alternatives(file)}{how}"]
    if source.run is None or not foreign or (RunFolder(file.parent).trained() is not None and file.is_file()):
        return []
    return [
        f"start.{role}.run: {source.run}: {file} is missing, or its training is not complete; give the name of a "
        f"trained run in {file.parent.parent}, or a stage of the sweep with start.{role}.stage=NAME"
    ]


def _other_weights(
    record: Trained | None, role: str, file: Path, sha256: Callable[[Path], str], trained: str
) -> list[str]:
    recorded = record.start.get(role) if record is not None else None
    if recorded is None or not file.is_file() or recorded == sha256(file):
        return []
    return [
        f"{trained}: trained from another start.{role}, since {file} has changed: restore the file, delete this run "
        "folder, or choose another --out"
    ]


def _other_data(record: Trained | None, present: Manifest | None, shards: Path, trained: str) -> list[str]:
    if record is None or present is None or record.data_version == present.version:
        return []
    return [
        f"{trained}: trained on other data, version {record.data_version[:12]}, while {shards} now holds "
        f"{present.version[:12]}: give the old shards as data.folder, or choose another --out"
    ]


def _manifest(shards: Path) -> Manifest | None:
    """Return the manifest in a folder of shards, or None for the built-in dataset before its first use."""
    return Manifest.read(shards) if (shards / MANIFEST).exists() else None
