"""Section `data`: the images of a run."""

from dataclasses import asdict, field
from typing import Annotated, Literal

from pydantic import Field, JsonValue

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
    draw_masks: bool = field(default=False, metadata=NOT_SCIENTIFIC)
    """Whether the masks of the fungi are packed too. `views.background` needs them and sets this itself. The images are
    the same with and without masks, but the versions of the data are not: to have one version for all rows of a table,
    set it for all of them."""

    @property
    def content(self) -> dict[str, JsonValue]:
        """Settings that decide the shards; without masks they are those that earlier versions had."""
        content = asdict(self)
        if not self.draw_masks:
            del content["draw_masks"]
        return content


@settings
class DataSettings:
    """A packed dataset, given by its name."""

    dataset: str = "toy"
    """Name of the dataset, which must be the name in the manifest of its shards. The default needs no files."""
    folder: str | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Folder of the shards that `fgssl pack` wrote. It may be empty for `toy` only, which is then packed on first use
    into the output folder. Moving the shards renames no run."""
    stage: str | None = field(default=None, metadata=NOT_SCIENTIFIC)
    """Folder on a disk of the node, such as `$SCRATCHDIR` or `$TMPDIR/fgssl`, to which the processes of a node
    copy the shards once before they read them. Variables are those of the process that reads. The SHA-256 of every file
    is verified while it is copied, and a complete copy of the same version is used again. If the folder cannot be
    written or is too small, images are read from `folder`, after a warning. If empty, as by default, nothing is copied.
    The built-in dataset is never copied."""
    cache: Literal["none", "memory"] = field(default="none", metadata=NOT_SCIENTIFIC)
    """Place of decoded training images. With `memory`, the processes of a node decode each image once and share its
    pixels in /dev/shm, which counts as memory of the job: a photograph of 256 × 341 pixels takes 0.26 MB. If the images
    would not fit into three quarters of the free memory, nothing is kept, after a warning. The last process deletes the
    file. `none` decodes an image each time it is read, which takes no memory. Results are the same to the last bit."""
    toy: ToySettings = ToySettings()
    """Content of the built-in dataset. Other datasets ignore it."""

    def __post_init__(self) -> None:
        if self.stage is not None and not self.stage.startswith(("/", "~", "$")):
            raise ValueError(
                f"stage {self.stage!r}: must be an absolute path of a node, or begin with a variable such as "
                "$SCRATCHDIR"
            )

    @property
    def embedded(self) -> bool:
        """Whether the images are drawn by code and packed on first use."""
        return self.dataset == "toy" and self.folder is None
