"""Findings of the doctor, and a profile filled in with them."""

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
    OK = "ok"
    FOUND = "found"
    """The profile left it empty."""
    DIFFERS = "differs"
    WARNING = "warning"
    UNKNOWN = "unknown"
    """Nothing here tells."""


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    subject: str
    """A key of the profile, or the scheduler's name for it."""
    message: str


class Diagnosis:
    """Findings, and the values of the profile that were seen, by their dotted keys."""

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
        self.findings.append(Finding(verdict, subject, message))

    def see(self, key: str, value: Any) -> None:
        """A value of the profile, as it is here; the command line's are not replaced by it."""
        if self.values.get(key) == value:
            return
        stated = self._stated.get(key)
        below = re.sub(r"^partitions\.[^.]+\.", "", key)
        if stated is None and value in (to_mapping(self.profile).at(key), _OF_A_PARTITION.at(below)):
            return  # the default: it need not be said
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
        """Mark a value of the profile as seen to work."""
        if (stated := self._content.at(key)) is not None:
            self.values[key] = stated

    def add_unverified(self) -> None:
        for mark in self._unverified():
            self.add(Verdict.UNKNOWN, mark, "nobody has verified it, and nothing here tells: see the site's documents")

    def filled(self) -> Profile:
        """The profile with the values that were seen."""
        content = self._filled()
        seen = {key.partition(".")[0] for key in self.values}
        return load_profile(
            self._file, [*self._overrides, *(f"{PREFIX}{key}={json.dumps(content[key])}" for key in seen)]
        )

    def yaml(self) -> str:
        """The same as a file, without the marks of what was seen."""
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
    """Compare two values; those of memory are rounded in documents, so they may differ by 1 %."""
    if isinstance(stated, int | float) and isinstance(found, float):
        return abs(stated - found) <= 0.01 * found
    return bool(stated == found)
