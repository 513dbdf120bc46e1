"""The embedded set: fungi drawn by code, 6 genera x 4 species.

A genus is seen at once (shape and color). Its four species differ in two small marks, each there or not: that is the
fine-grained part. Everything else (`Nuisances`) varies freely, says nothing about the class and is recorded as
attributes, so that what an encoder ignores can be measured.
"""

import dataclasses
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgssl.data.shards import Sample, SourceDataset
from fgssl.data.sources.encoded_image import png
from fgssl.data.sources.toy_fungus import GENERA, SPECIES, draw_fungus
from fgssl.data.sources.toy_scene import Nuisances, Scene, background, grass
from fgssl.settings.data import ToySettings
from fgssl.store.manifest import Level


def source(options: ToySettings) -> SourceDataset:
    """The whole set; (species, genus) are its levels."""
    counts = {"train": options.train_images_per_species, "test": options.test_images_per_species}
    return SourceDataset(
        name="toy",
        source="toy",
        arguments=dataclasses.asdict(options),
        levels=(Level("species", SPECIES), Level("genus", tuple(genus.name for genus in GENERA))),
        splits={
            split: [
                partial(_sample, options, split, species, number)
                for species in range(len(SPECIES))
                for number in range(count)
            ]
            for split, count in counts.items()
        },
        seed=options.seed,
    )


def _sample(options: ToySettings, split: str, species: int, number: int) -> Sample:
    nuisances, details = Nuisances.at(options.seed, split, species, number)
    return Sample(
        image=png(draw(species, nuisances, details, options.image_size)),
        labels=(species, species // 4),
        source_id=f"{split}/{SPECIES[species].replace(' ', '_')}/{number:05d}",
        attributes=dataclasses.asdict(nuisances),
    )


def draw(species: int, nuisances: Nuisances, details: NDArray[np.float64], image_size: int) -> Image.Image:
    """One RGB image of `image_size` pixels; the same picture at every size.

    `nuisances, details = Nuisances.at(seed, split, species, number)` are those of an image of the dataset.
    """
    scene = Scene(nuisances, image_size)
    background(scene, details[:80])
    blades = details[80:].reshape(-1, 5)
    behind = int(nuisances.grass_blades) // 2
    grass(scene, blades[:behind])
    draw_fungus(scene, GENERA[species // 4], first_mark=bool(species & 1), second_mark=bool(species & 2))
    grass(scene, blades[behind : int(nuisances.grass_blades)])
    return scene.finished()
