"""Remarks of packing: what was done to images, and which images are equal byte for byte though they should not be."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fgssl.data.packed_image import Finding
from fgssl.store.manifest import LISTED_FAULTS, MANIFEST, Level, listed

FindingCounts = Mapping[str, tuple[int, tuple[str, ...]]]
"""Number of images and their first names, by finding."""
ClassCounts = Mapping[str, tuple[tuple[int, ...], ...]]
"""Number of images of each class, by split and then by level."""
_NEXT_NAME = "\n  "
"""Text between the headline and the names of a remark that has a line for each."""
_UNNAMED = (Finding.SHRUNK, Finding.TURNED, Finding.CMYK, Finding.PALETTE, Finding.DEEP)


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


def remarks_on_left_out(faults: Sequence[str], class_counts: ClassCounts, levels: Sequence[Level]) -> list[str]:
    """Return a remark that names all unreadable images that were left out, and one on classes that have no other ones.

    `shortened` returns what is printed of the first.
    """
    headline = f"{len(faults)} unreadable image{'s' * (len(faults) > 1)} left out:"
    remarks = [_NEXT_NAME.join([headline, *faults])]
    for split, counts in class_counts.items():
        if emptied := [
            name
            for level, numbers in zip(levels[:1], counts[:1], strict=True)
            for name, number in zip(level.classes, numbers, strict=True)
            if not number
        ]:
            remarks.append(listed(emptied, f"class without images in {split}", f"classes without images in {split}"))
    return remarks


def shortened(remark: str) -> str:
    """Return a remark with the first of its names; the manifest has all of them."""
    headline, *names = remark.split(_NEXT_NAME)
    more = [f"... and {len(names) - LISTED_FAULTS} more, which {MANIFEST} names"] * (len(names) > LISTED_FAULTS + 1)
    return _NEXT_NAME.join([headline, *(names[:LISTED_FAULTS] if more else names), *more])


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


def contradictions(digests: bytes, labels: Callable[[], NDArray[np.int64]], name: Callable[[int], str]) -> list[str]:
    """Return a remark on equal images with different labels, in one split or in several, if there are any.

    `digests` holds 8 bytes for each image. `labels` returns their finest labels (n,), and `name` what the remark shows
    of an image.
    """
    keys = np.frombuffer(digests, dtype=np.uint64)
    _, key_of, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[key_of] > 1)
    if not len(repeated):
        return []
    first_rows: dict[int, dict[int, int]] = {}
    label_of = labels()
    for row in repeated.tolist():
        first_rows.setdefault(int(key_of[row]), {}).setdefault(int(label_of[row]), row)
    different = [list(by_label.values()) for by_label in first_rows.values() if len(by_label) > 1]
    if not different:
        return []
    count = len(different)
    headline = f"{_images(count)} that {'occurs' if count == 1 else 'occur'} with different labels"
    return [_remark(headline, count, [" = ".join(map(name, rows)) for rows in different[:LISTED_FAULTS]])]


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _remark(headline: str, count: int, names: Sequence[str]) -> str:
    lines = [f"{headline}{':' if names else ''}", *names]
    if names and count > len(names):
        lines.append(f"... and {count - len(names)} more")
    return "\n  ".join(lines)
