"""Findings of the doctor, and the profile that results from them."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from fgssl.settings.fingerprints import to_mapping
from fgssl.settings.layers import Layer, nested, overlaps, parse_overrides, read_yaml, to_yaml
from hpc.cluster.site.profile import PartitionSettings, Profile
from hpc.cluster.site.profile_files import PREFIX, load_profile, profile_file

_OF_A_PARTITION = to_mapping(PartitionSettings())


class Verdict(StrEnum):
    """Kind of a finding."""

    OK = "ok"
    FOUND = "found"
    """Value that the profile leaves empty."""
    DIFFERS = "differs"
    """Value that contradicts the profile."""
    WARNING = "warning"
    UNKNOWN = "unknown"
    """Value that the doctor cannot check."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    verdict: Verdict
    subject: str
    """Key of the profile, or the scheduler's name of what was checked."""
    message: str


class Diagnosis:
    """Findings, and observed values of the profile by dotted key."""

    def __init__(self, file: Path, overrides: Sequence[str] = ()) -> None:
        file = profile_file(file)
        self.profile = load_profile(file, overrides)
        self.findings: list[Finding] = []
        self.values: dict[str, Any] = {}
        self.source = self.profile.scheduler
        """Name of the scheduler, with its version."""
        self._file, self._overrides = file, overrides
        self._content = read_yaml(file)
        self._given = {key.removeprefix(PREFIX): value for key, value in parse_overrides(overrides).items()}
        for key, value in self._given.items():
            self._content = self._content.merge(nested(key, value))
        self._stated = self._content.leaves()

    def add(self, verdict: Verdict, subject: str, message: str) -> None:
        """Append a finding."""
        self.findings.append(Finding(verdict, subject, message))

    def see(self, key: str, value: Any) -> None:
        """Compare an observed value with the profile, and record it unless the command line sets another one."""
        if self.values.get(key) == value:
            return
        stated = self._stated.get(key)
        below = re.sub(r"^partitions\.[^.]+\.", "", key)
        if stated is None and value in (to_mapping(self.profile).at(key), _OF_A_PARTITION.at(below)):
            return  # the default value, which a profile can omit
        if overlaps(key, self._given) and not _agree(stated, value):
            if stated is not None:
                self.add(Verdict.DIFFERS, key, f"{value} here, {stated} on the command line")
            return
        self.values[key] = stated if _agree(stated, value) else value
        if stated is None or stated == "unknown":
            self.add(Verdict.FOUND, key, f"{value}")
        elif _agree(stated, value):
            self.add(Verdict.OK, key, f"{stated}")
        else:
            self.add(Verdict.DIFFERS, key, f"{value} here, {stated} in {self._file}")

    def confirm(self, key: str) -> None:
        """Record a value of the profile as observed to work."""
        if (stated := self._content.at(key)) is not None:
            self.values[key] = stated

    def add_unverified(self) -> None:
        """Append a finding for each unverified value that was not observed."""
        for mark in self._unverified():
            self.add(Verdict.UNKNOWN, mark, "unverified, and the doctor cannot check it: see the site's documentation")

    def filled(self) -> Profile:
        """Return the profile with the observed values."""
        content = self._filled()
        seen = {key.partition(".")[0] for key in self.values}
        given = [text for text in self._overrides if re.split(r"[.=]", text.removeprefix(PREFIX))[0] not in seen]
        return load_profile(self._file, [*given, *(f"{PREFIX}{key}={json.dumps(content[key])}" for key in seen)])

    def yaml(self) -> str:
        """Return the profile with the observed values as YAML, where those are no longer marked as unverified."""
        source = {"document": f"{self.source}, by fgssl doctor", "snapshot": time.strftime("%Y-%m-%d")}
        content = self._filled()
        if "unverified" in content:
            content["unverified"] = self._unverified()
        content["sources"] = [*(content.get("sources") or ()), source]
        return to_yaml(content)

    def _filled(self) -> Layer:
        content = self._content
        for key, value in self.values.items():
            content = content.merge(nested(key, value))
        return content

    def _unverified(self) -> list[str]:
        def seen(mark: str) -> bool:
            return any(mark == key or mark.startswith(f"{key}.") for key in self.values)

        return [mark for mark in self.profile.unverified if not seen(mark)]


def _agree(stated: Any, found: Any) -> bool:
    """Return whether two values agree, within 1 % for a float, since documents round memory."""
    if isinstance(stated, int | float) and isinstance(found, float):
        return abs(stated - found) <= 0.01 * found
    return bool(stated == found)
