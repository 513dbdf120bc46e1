"""Remarks of packing: what was done to images, and which images of two splits are equal byte for byte."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fgssl.data.packed_image import Finding
from fgssl.store.manifest import LISTED_FAULTS

FindingCounts = Mapping[str, tuple[int, tuple[str, ...]]]
"""Number of images and their first names, by finding."""
_UNNAMED = (Finding.SHRUNK,)


def count_findings(found: Iterable[tuple[str, Mapping[Finding, str]]]) -> FindingCounts:
    """Count the findings of images, each given with the name of the image."""
    names: dict[str, list[str]] = {}
    for name, findings in found:
        for finding, detail in findings.items():
            names.setdefault(finding, []).append(f"{name} ({detail})" if detail else name)
    return {finding: (len(named), tuple(named[:LISTED_FAULTS])) for finding, named in names.items()}


def merged(first: FindingCounts, second: FindingCounts) -> FindingCounts:
    """Add the counts of later images to those of earlier ones."""
    nothing: tuple[int, tuple[str, ...]] = (0, ())
    return {
        finding: (
            first.get(finding, nothing)[0] + second.get(finding, nothing)[0],
            (*first.get(finding, nothing)[1], *second.get(finding, nothing)[1])[:LISTED_FAULTS],
        )
        for finding in {**first, **second}
    }


def remarks_on(findings: FindingCounts) -> list[str]:
    """Return one remark per finding, with the number of images and the names of the first ones."""
    return [
        _remark(f"{_images(count)} {finding}", count, () if finding in _UNNAMED else names)
        for finding in Finding
        if finding in findings
        for count, names in [findings[finding]]
    ]


def equal_images(digests: Mapping[str, bytes], name: Callable[[str, int], str]) -> list[str]:
    """Return one remark for each pair of splits that share images, with examples.

    `digests` holds 8 bytes for each image of a split, and `name` returns the origin of an image of a split by its row.
    """
    remarks = []
    for one, other in itertools.combinations(digests, 2):
        keys = [np.frombuffer(digests[split], dtype=np.uint64) for split in (one, other)]
        in_other = np.flatnonzero(np.isin(keys[1], keys[0]))
        if len(in_other):
            order = np.argsort(keys[0], kind="stable")
            rows = order[np.searchsorted(keys[0], keys[1][in_other[:LISTED_FAULTS]], sorter=order)]
            pairs = zip(in_other.tolist(), rows.tolist(), strict=False)
            examples = [f"{name(other, second)} = {name(one, first)}" for second, first in pairs]
            count = len(in_other)
            remarks.append(_remark(f"{_images(count)} of {other} equal byte for byte in {one}", count, examples))
    return remarks


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _remark(headline: str, count: int, names: Sequence[str]) -> str:
    lines = [f"{headline}{':' if names else ''}", *names]
    if names and count > len(names):
        lines.append(f"... and {count - len(names)} more")
    return "\n  ".join(lines)
