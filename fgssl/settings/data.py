"""Which images a run reads."""

from dataclasses import field
from typing import Annotated

from pydantic import Field

from fgssl.settings.declare import NOT_SCIENTIFIC, NUMBER, NonNegativeInt, PositiveInt, settings


@settings
class ToySettings:
    """The embedded set: fungi drawn by code, 6 genera x 4 species."""

    seed: NonNegativeInt = 0
    """Seed of the drawings; another seed is another dataset."""
    image_size: Annotated[int, Field(ge=16, le=512), NUMBER] = 32
    """Side of the square images, pixels."""
    train_images_per_species: PositiveInt = 40
    """Training images of each species."""
    test_images_per_species: PositiveInt = 20
    """Test images of each species."""


@settings
class DataSettings:
    """A dataset by name; its shards are made by `fgssl pack`."""

    dataset: str = "toy"
    """Name of the dataset, as in the manifest of its shards."""
    folder: str | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Folder of packed shards. Empty only for `toy`, which is then packed on first use."""
    toy: ToySettings = ToySettings()
    """How `toy` is drawn; used by that dataset only."""

    @property
    def embedded(self) -> bool:
        """Whether the images are those that code draws, packed on their first use."""
        return self.dataset == "toy" and self.folder is None
