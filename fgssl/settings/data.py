"""Section `data`: the images of a run."""

from dataclasses import field
from typing import Annotated

from pydantic import Field

from fgssl.settings.declare import NOT_SCIENTIFIC, NUMBER, NonNegativeInt, PositiveInt, settings


@settings
class ToySettings:
    """The built-in dataset: fungi drawn by code, 4 species in each of 6 genera."""

    seed: NonNegativeInt = 0
    """Seed of the drawings. Another seed gives another dataset; `seed` of the run has no influence on it."""
    image_size: Annotated[int, Field(ge=16, le=512), NUMBER] = 32
    """Side of the square images, in pixels. At 32 a small ResNet trains on two CPU cores within minutes."""
    train_images_per_species: PositiveInt = 40
    """Training images of each of the 24 species. The default makes 960 images."""
    test_images_per_species: PositiveInt = 20
    """Test images of each of the 24 species. The default makes 480 images."""


@settings
class DataSettings:
    """A packed dataset, given by its name."""

    dataset: str = "toy"
    """Name of the dataset, which must be the name in the manifest of its shards. The default needs no files."""
    folder: str | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Folder of the shards that `fgssl pack` wrote. It may be empty for `toy` only, which is then packed on first use
    into the output folder. Moving the shards renames no run."""
    toy: ToySettings = ToySettings()
    """Content of the built-in dataset. Other datasets ignore it."""

    @property
    def embedded(self) -> bool:
        """Whether the images are drawn by code and packed on first use."""
        return self.dataset == "toy" and self.folder is None
