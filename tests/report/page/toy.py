"""Generated content of a page: images whose color is their species, and two runs that embed them."""

import functools

import numpy as np
from numpy.typing import NDArray

from fgssl.report.page.content import (
    Embedding,
    Entry,
    Figure,
    Level,
    Map,
    Page,
    Provenance,
    Run,
    RunOrigin,
    Table,
    neighborhood_jaccard,
)

HOSTILE = "<script>document.title='broken'</script>"
"""Name of a class, a file and a run that would change the page's title if it became markup."""
SVG = (
    b"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 60 40' width='420' height='280'>"
    b"<style>path{fill:none;stroke:#0b62c4}</style><path d='M5 35 20 18 35 22 55 6' style='stroke-width:2'/></svg>"
)


@functools.cache
def pixels(row: int) -> NDArray[np.uint8]:
    """Return an image of its own size and texture, in the color of its genus."""
    random = np.random.default_rng(row)
    height, width = 80 + row % 3 * 40, 120
    down, right = np.mgrid[:height, :width]
    disc = (down - height / 2) ** 2 + (right - width / 2) ** 2 < (20 + row % 20) ** 2
    image = np.zeros((height, width, 3)) + np.array([200, 210, 220]) - down[..., None] * 0.6
    hue = np.random.default_rng(row % 12 // 3).integers(30, 220, 3)
    image[disc] = hue + 40 * np.sin(right[disc] / (2 + row % 3))[:, None]
    return np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def toy_map(title: str, labels: NDArray[np.int64], seed: int, spread: float, k: int = 10) -> Map:
    random = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    angle = np.arange(classes) * 2.4
    centers = np.stack([np.cos(angle), np.sin(angle)], 1) * np.sqrt(np.arange(classes) + 0.5)[:, None] * 3
    points = centers[labels] + random.normal(0, spread, (len(labels), 2))
    outlier = random.random(len(labels)) < 0.02
    points[outlier] = centers[random.integers(0, classes, int(outlier.sum()))]
    if len(labels) <= 2000:
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        neighbors = np.argsort(distances, axis=1, kind="stable")[:, :k]
        nearest = np.take_along_axis(distances, neighbors, axis=1)
    else:
        neighbors = random.integers(0, len(labels), (len(labels), k))
        nearest = np.sort(random.random((len(labels), k)), axis=1)
    outliers = np.repeat(outlier[:, None], 2, axis=1)
    return Map(title, points.astype(np.float32), neighbors, nearest.astype(np.float32), outliers, 0.9713)


def toy_embedding(count: int = 300, classes: int = 12, maps: int = 2, hostile: bool = True) -> Embedding:
    labels = np.arange(count) % classes
    names = [f"species {number:03d}" for number in range(classes)]
    ids = [f"toy/{names[label].replace(' ', '_')}/{row:05d}.jpg" for row, label in enumerate(labels)]
    if hostile:
        names[1], ids[1] = HOSTILE, f"{HOSTILE}.jpg"
    genera = tuple(f"genus {number}" for number in range(-(-classes // 3)))
    made = [toy_map(title, labels, seed, 0.9 + seed) for seed, title in enumerate(["SimCLR", "HCL"][:maps])]
    brightness = np.sin(np.arange(count) / 20)
    brightness[3] = np.nan
    return Embedding(
        ids=tuple(ids),
        levels=(Level("species", tuple(names), labels), Level("genus", genera, labels // 3)),
        attributes={"brightness": brightness},
        maps=tuple(made),
        jaccard=neighborhood_jaccard(made[0].neighbors, made[1].neighbors) if maps == 2 else None,
    )


def toy_page(*embeddings: Embedding) -> Page:
    runs = (
        Run("a1b2-seed0", "SimCLR", 0, "done"),
        Run("c3d4-seed0", "HCL", 0, "running", "epoch 40 of 100"),
        Run("e5f6-seed0", HOSTILE, 0, "failed", "out of memory; logs/e5f6.txt"),
    )
    origin = Provenance(
        "SimCLR, recall@1",
        (RunOrigin(runs[0], ("1204", "1207"), 3.25, "runs/a1b2-seed0/log.txt"),),
        (("method.name", "start_encoder", "simclr"), ("method.temperature", "–", "0.1")),
        "fgssl 0.1.0, code 91c2f0",
        f"toy, version 77ab12 {HOSTILE}",
    )
    rows = (
        (Entry("SimCLR"), Entry("81.2 ± 0.4", "best", "simclr"), Entry("64.0 ± 1.1", "second", "simclr"), Entry("5")),
        (Entry("HCL"), Entry("80.9 ± 0.6", "second"), Entry("66.3 ± 0.9"), Entry("4†")),
        (Entry(HOSTILE), Entry("–"), Entry("–"), Entry("0")),
    )
    table = Table("toy, percent; mean ± standard deviation", ("cell", "recall@1", "mAP", "seeds"), rows)
    return Page(
        title="Toy species (toy.yaml, preset smoke)",
        summary="3 runs: 1 done, 1 running, 1 failed",
        tables=(table,),
        notes=("† HCL: 1 of 5 seeds is running",),
        figures=(Figure("Loss.", f"Training curve {HOSTILE}", "svg", SVG, "The loss falls."),),
        embeddings=embeddings,
        runs=runs,
        provenances={"simclr": origin},
    )
