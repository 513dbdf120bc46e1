"""Source `toy`: the built-in dataset, fungi drawn by code, 6 genera x 4 species.

A genus is recognized by shape and color. Its four species are the fine-grained part: they differ in two small marks,
each present or absent. All other properties (`Nuisances`) are independent of the class and are recorded as attributes,
so that a measure can show whether an encoder ignores them.
"""

import dataclasses
from functools import partial

from fgssl.data.source import Sample, Source, SourceDataset
from fgssl.data.sources.toy_content import LEVELS, SPECIES, Nuisances
from fgssl.settings.data import ToySettings


def read(options: ToySettings) -> SourceDataset:
    """Return the whole set, of which nothing is drawn yet."""
    counts = {"train": options.train_images_per_species, "test": options.test_images_per_species}
    return SourceDataset(
        name="toy",
        source="toy",
        arguments=options.content,
        levels=LEVELS,
        splits={
            split: [
                partial(_sample, options, split, species, number)
                for species in range(len(SPECIES))
                for number in range(count)
            ]
            for split, count in counts.items()
        },
        seed=options.seed,
        drawn=True,
        masked=options.draw_masks,
    )


def _sample(options: ToySettings, split: str, species: int, number: int) -> Sample:
    from fgssl.data.sources.encoded_image import png
    from fgssl.data.sources.toy_fungus import drawn_scene

    nuisances, details = Nuisances.at(options.seed, split, species, number)
    scene = drawn_scene(species, nuisances, details, options.image_size)
    return Sample(
        image=png(scene.finished()),
        labels=(species, species // 4),
        source_id=f"{split}/{SPECIES[species].replace(' ', '_')}/{number:05d}",
        attributes=dataclasses.asdict(nuisances),
        mask=png(scene.object_mask()) if options.draw_masks else None,
    )


SOURCE = Source(
    name="toy",
    summary="the built-in dataset, fungi drawn by code",
    settings=ToySettings,
    paths=(),
    levels=tuple(level.name for level in LEVELS),
    how_to_get="""\
Nothing has to be downloaded: the images are drawn by code. Runs with `data.dataset=toy` and no `data.folder` pack the
set on first use. Pack it yourself to look at it, or to draw another one.""",
    read=read,
)
