"""Overview of a packed dataset: images by class, level and split, their sizes and formats, and a contact sheet."""

import io
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fgssl.data.packing_remarks import shortened
from fgssl.data.shards import ShardedSplit
from fgssl.errors import DataError
from fgssl.store.manifest import Level, Manifest

CLASSES_SHOWN = 40
"""Most classes of a level that are listed; of more, only the smallest and the largest are."""
EXTREMES_SHOWN = 5
IMAGES_MEASURED = 2000
"""Most images of a split whose headers are read, evenly spread over the shards."""
TILES = 60
"""Most images of a split in a contact sheet."""
TILE, CAPTION, COLUMNS = 128, 16, 10
MARGIN = 2
"""Pixels around the image of a tile."""


def overview(folder: Path) -> str:
    """Return the tables of a packed dataset and the remarks of its packing as text."""
    manifest = Manifest.read(folder)
    parts = ["\n".join(_classes(manifest, number, level)) for number, level in enumerate(manifest.levels)]
    parts.append("\n".join(_images(ShardedSplit(folder, split)) for split in manifest.splits))
    remarks = [f"packing remarked: {shortened(remark)}" for remark in manifest.remarks]
    return "\n\n".join([*parts, *remarks])


def _classes(manifest: Manifest, number: int, level: Level) -> Iterator[str]:
    """Yield the lines about one level: images per class in each split, and the classes themselves."""
    counts = {split: by_level[number] for split, by_level in manifest.class_counts.items()}
    yield f"{level.name}: {len(level.classes)} classes"
    for split, of_split in counts.items():
        yield f"  images per class in {split}: {_spread(of_split)}"
    order = range(len(level.classes))
    if len(order) <= CLASSES_SHOWN:
        yield from _table(level, counts, order)
    else:
        by_size = sorted(order, key=lambda label: (sum(of_split[label] for of_split in counts.values()), label))
        yield f"  the {EXTREMES_SHOWN} smallest and the {EXTREMES_SHOWN} largest classes:"
        yield from _table(level, counts, [*by_size[:EXTREMES_SHOWN], *by_size[-EXTREMES_SHOWN:]])


def _table(level: Level, counts: Mapping[str, Sequence[int]], labels: Sequence[int]) -> Iterator[str]:
    width = max(len(level.classes[label]) for label in labels)
    columns = {
        split: max(len(split), *(len(str(of_split[label])) for label in labels)) for split, of_split in counts.items()
    }
    yield "    ".join([" " * (width + 4), *(f"{split:>{columns[split]}}" for split in counts)])
    for label in labels:
        numbers = (f"{of_split[label]:>{columns[split]}}" for split, of_split in counts.items())
        yield "    ".join([f"    {level.classes[label]:<{width}}", *numbers])


def _images(split: ShardedSplit) -> str:
    """Return one line about the sizes and formats of the images of a split."""
    step = -(-len(split) // IMAGES_MEASURED)
    headers = [Image.open(io.BytesIO(split.read(row))) for row in range(0, len(split), step)]
    width, height = _spread([image.width for image in headers]), _spread([image.height for image in headers])
    formats = Counter(f"{image.format} ({image.mode})" for image in headers)
    listed = ", ".join(f"{count} {name}" for name, count in formats.most_common())
    measured = f"{len(headers)} of {len(split)} images measured" if step > 1 else f"{len(split)} images"
    return f"{split.split}: {measured}; width in px: {width}; height in px: {height}; {listed}"


def _spread(numbers: Sequence[int]) -> str:
    """Return the smallest number, the largest and the median; one number if all are equal."""
    lowest, highest = min(numbers), max(numbers)
    return f"{lowest} to {highest}, median {statistics.median(numbers):g}" if lowest < highest else str(lowest)


def contact_sheet(folder: Path) -> bytes:
    """Return a PNG of images of each split, with the names of their finest classes below them.

    Raises:
        DataError: An image is damaged.
    """
    splits = [ShardedSplit(folder, split) for split in Manifest.read(folder).splits]
    rows = [_chosen(split) for split in splits]
    heights = [CAPTION + (TILE + CAPTION) * -(-len(chosen) // COLUMNS) for chosen in rows]
    sheet = Image.new("RGB", (TILE * COLUMNS, sum(heights)), "white")
    top = 0
    for split, chosen, height in zip(splits, rows, heights, strict=True):
        _write(sheet, f"{split.manifest.dataset}, {split.split}", 0, top, sheet.width)
        for place, row in enumerate(chosen):
            x, y = TILE * (place % COLUMNS), top + CAPTION + (TILE + CAPTION) * (place // COLUMNS)
            tile = _tile(split, row)
            sheet.paste(tile, (x + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
            _write(sheet, _caption(split, row), x, y + TILE, TILE)
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _chosen(split: ShardedSplit) -> list[int]:
    """Return the rows to show: as many of each class, in the order of the classes, or of evenly chosen classes."""
    if not split.levels:
        return list(range(min(TILES, len(split))))
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(split.labels[:, 0].tolist()):
        rows.setdefault(label, []).append(row)
    labels = sorted(rows)
    if len(labels) > TILES:
        labels = [labels[place * len(labels) // TILES] for place in range(TILES)]
    return [row for label in labels for row in rows[label][: TILES // len(labels)]]


def _tile(split: ShardedSplit, row: int) -> Image.Image:
    """Return an image shrunk to a tile, or enlarged by a whole number, so that its pixels stay what they are.

    If there are masks, all but the object is darkened.
    """
    try:
        pixels = split.pixels(row)
        if split.manifest.masks:
            pixels[~split.mask(row)] //= 3
        tile = Image.fromarray(pixels)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{split.source_ids[row]}: cannot be read ({error}): check with `fgssl pack --verify`"
        ) from None
    side = TILE - 2 * MARGIN
    if factor := side // max(tile.size):
        return tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
    tile.thumbnail((side, side))
    return tile


def _caption(split: ShardedSplit, row: int) -> str:
    return split.levels[0].classes[split.labels[row, 0]] if split.levels else str(split.source_ids[row])


def _write(sheet: Image.Image, text: str, x: int, y: int, width: int) -> None:
    """Write one line of text that ends in an ellipsis if it is wider than `width`."""
    font = ImageFont.load_default(size=11)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) > width - 4:
        while text and font.getlength(f"{text}…") > width - 4:
            text = text[:-1]
        text += "…"
    ImageDraw.Draw(sheet).text((x + 2, y + 1), text, fill="black", font=font)
