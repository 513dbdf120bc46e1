"""Load a `Profile` from its file, or by the name of a shipped one, and report all of its faults at once."""

import dataclasses
import difflib
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgssl.errors import COMMAND_LINE, Problem, SettingsError
from fgssl.settings.layers import Layer, Place, locate, nested, overlaps, parse_overrides, read_yaml
from fgssl.settings.validation import unknown, validate, without_faults
from hpc.cluster.site.profile import PartitionSettings, Profile

PREFIX = "cluster."
"""Prefix of command line overrides that belong to a profile."""
_CLONE = Path(__file__).parents[3] / "slurm"
_SHIPPED = _CLONE if _CLONE.is_dir() else Path(sysconfig.get_path("data"), "share", "fgssl", "slurm")
_KEYS = tuple(entry.name for entry in dataclasses.fields(Profile) if entry.name != "file")


def load_profile(file: Path, overrides: Sequence[str] = ()) -> Profile:
    """Return the profile of `read_profile`, or raise a `SettingsError` with all problems."""
    profile, problems = read_profile(file, overrides)
    if problems:
        raise SettingsError(problems)
    return profile


def read_profile(file: Path, overrides: Sequence[str] = ()) -> tuple[Profile, list[Problem]]:
    """Return a profile with overrides (`cluster.account=OPEN-12-34`), and all problems of its values.

    `file` is a path or the name of a shipped profile. Faulty values are left out of the profile, so that a sweep can be
    checked against the others. Overridden values are no longer marked as unverified.
    """
    given, problems = _given(overrides)
    try:
        file = profile_file(file)
        content = read_yaml(file)
    except SettingsError as error:
        return validate(_unknown(file), Profile, str(file)), [*error.problems, *problems]
    top = Place(str(file))
    for key, value in given.items():
        content = content.merge(nested(key, value, given.places[key]))
    for key in [key for key in content if key not in _KEYS]:
        problems.append(locate(content, [str(key)], top).problem(unknown(str(key), _KEYS)))
        del content[key]
    problems += _mark_problems(content, top)
    content |= {"partitions": _partitions(content, top, problems), "file": str(file)}
    sound, found = without_faults(content, Profile, top, instead=_unknown(file))
    profile = validate(sound, Profile, top)
    for fault in _faults(profile):
        found.append(locate(content, fault.key.split("."), top).problem(fault.message))
    marks = tuple(mark for mark in profile.unverified if not overlaps(mark, given))
    return dataclasses.replace(profile, unverified=marks), [*problems, *found]


def _unknown(file: Path) -> dict[str, Any]:
    """Return placeholders for faulty values; the site has GPUs and nodes without GPUs, both with unknown values."""
    return {"site": "", "file": str(file), "gpu": {}, "cpu_node": {}}


def shipped_profiles() -> dict[str, Path]:
    """Return {name: file} of the shipped profiles."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("[!.]*.yaml"))}


def profile_file(given: Path) -> Path:
    """Return the path of a profile, given as a path or as the name of a shipped one (`karolina`).

    Raises `SettingsError` if it is neither.
    """
    if given.is_file():
        return given
    shipped = shipped_profiles()
    if str(given) in shipped:
        path = shipped[str(given)]
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    near = difflib.get_close_matches(given.stem, shipped, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    what = f"no file {given}" if given.suffix or len(given.parts) > 1 else f"unknown cluster {given}"
    message = f"{what}{hint}; choose one of {', '.join(shipped)}, or give the path of your own profile"
    raise SettingsError([Problem(COMMAND_LINE, "--cluster", message)])


def _given(overrides: Sequence[str]) -> tuple[Layer, list[Problem]]:
    given, problems = Layer(), list[Problem]()
    parsed = parse_overrides(overrides)
    for key, value in parsed.items():
        if key.startswith(PREFIX):
            given[key.removeprefix(PREFIX)] = value
            given.places[key.removeprefix(PREFIX)] = parsed.places[key]
        else:
            problems.append(parsed.places[key].problem(f"is not a key of a profile: those begin with {PREFIX}"))
    return given, problems


def _mark_problems(content: Layer, top: Place) -> Iterator[Problem]:
    """Yield a problem for each key in `unverified` that has no value in the file."""
    marks, keys = content.get("unverified"), [key for key, value in content.leaves().items() if value is not None]
    for mark in marks if isinstance(marks, Sequence) and not isinstance(marks, str) else ():
        if not any(str(mark) == key or key.startswith(f"{mark}.") for key in keys):
            near = difflib.get_close_matches(str(mark), keys, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"{mark!r} must be a key with a value in this file: {hint}correct or delete it"
            yield locate(content, ["unverified"], top).problem(message)


def _partitions(content: Layer, top: Place, problems: list[Problem]) -> Any:
    """Return the partitions without faulty values, and add the faults to `problems`.

    A fault that is found here, for one partition at a time, comes with a suggestion for a mistyped key.
    """
    partitions = content.get("partitions")
    if not isinstance(partitions, Mapping):
        return partitions
    sound = Layer(partitions)
    for name, entry in partitions.items():
        place = locate(content, ["partitions", str(name)], top)
        sound[name], found = without_faults({} if entry is None else entry, PartitionSettings, place)
        problems += found
    return sound


def _faults(profile: Profile) -> Iterator[Problem]:
    """Yield a problem for each set of values that contradict one another."""
    gpu, node, accounts = profile.gpu, profile.node, profile.accounts
    if profile.account is not None and not accounts.fits(profile.account):
        message = f"{profile.account!r} is not allowed: accounts of {profile.name} are like {accounts.example}"
        yield Problem(profile.file, "account", f"{message} ({profile.cite('accounts.pattern')})")
    for key in ("partition", "cpu_partition"):
        name = getattr(profile, key)
        if name is not None and profile.partitions is not None and name not in profile.partitions:
            yield Problem(profile.file, key, unknown(name, list(profile.partitions), what="partition"))
    for name in profile.partitions or {}:
        shortest, longest = (profile.limit(f"{which}_walltime_min", name)[0] for which in ("shortest", "longest"))
        if shortest is not None and longest is not None and shortest > longest:
            message = f"shortest_walltime_min {shortest} must not exceed longest_walltime_min {longest}"
            yield Problem(profile.file, f"partitions.{name}.limits", message)
    if gpu is not None and gpu.per_node is not None:
        if gpu.counts and max(gpu.counts) > gpu.per_node:
            message = f"{max(gpu.counts)} must not exceed per_node {gpu.per_node}"
            yield Problem(profile.file, "gpu.counts", message)
        cores = gpu.per_node * (gpu.cores or 0)
        if node.job_cores is not None and cores > node.job_cores:
            message = (
                f"{gpu.cores} for each of {gpu.per_node} GPUs are {cores}, but jobs can use {node.job_cores} of a node"
            )
            yield Problem(profile.file, "gpu.cores", message)
