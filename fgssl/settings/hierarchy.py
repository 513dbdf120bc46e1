"""Settings of the methods that train on several levels of labels."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import NonNegativeFloat, PositiveFloat, settings
from fgssl.settings.methods import ProjectedSettings

if TYPE_CHECKING:
    from fgssl.store.manifest import Manifest


@settings
class LeveledSettings(ProjectedSettings):
    """Settings that methods on several levels of labels share."""

    needs_labels = True

    level_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (1.0, 0.1)
    """Weight of each level of labels, finest first."""

    def lacks(self, manifest: "Manifest") -> Iterator[str]:
        """Yield a message for each thing that the dataset lacks: labels, or a level for each weight."""
        weights, levels = list(self.level_weights), len(manifest.levels)
        if 0 < levels < len(weights):
            yield (
                f"method.level_weights: {weights} are {len(weights)} weights, but {manifest.listed_levels}: give one "
                f"weight per level, finest first, {levels} at most"
            )
        else:
            yield from super().lacks(manifest)


@settings
class HCLSettings(LeveledSettings):
    """HCL, supervised contrastive learning on several levels of labels with soft positive pairs (Chamidullin)."""

    implementation = "fgssl.methods.hcl:HCL"

    name: Literal["hcl"] = "hcl"
    level_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (1.0, 0.1)
    """Weight of a pair by the finest level that its images share, finest first: (1, lambda) for species and genus. The
    first must be above 0, and no weight may exceed the one before it. No lambda is published; 0.1 is our choice."""
    weighting: Literal["pair", "mass", "ignore"] = "pair"
    """Meaning of the weights. Under `pair` each pair has its weight, so many positives of the genus outweigh few of the
    species. Under `mass` the loss is a mean over levels, (1 - lambda) SupCon on species + lambda SupCon on genus,
    whatever the number of positives. `pair` is closest to the published description. Under `ignore`, a variant of ours,
    pairs of one genus alone are neither positives nor negatives, whatever lambda above 0 is."""

    def __post_init__(self) -> None:
        weights = self.level_weights
        if not weights[0] or any(finer < coarser for finer, coarser in itertools.pairwise(weights)):
            raise ValueError(f"level_weights {list(weights)}: must begin above 0 and never rise, e.g. [1.0, 0.1]")

    def canonical(self) -> "HCLSettings":
        """Return the settings with 1 for each weight that only has to be above 0."""
        if self.weighting != "ignore":
            return self
        return dataclasses.replace(self, level_weights=tuple(float(weight > 0) for weight in self.level_weights))


@settings
class HMLCSettings(LeveledSettings):
    """HMLC with its loss HiMulConE (Zhang et al. 2022, CVPR, arXiv:2204.13207).

    It is SupCon on each level of labels, but the loss of a level is at least that of the finer one.
    """

    implementation = "fgssl.methods.hmlc:HMLC"

    name: Literal["hmlc"] = "hmlc"
    level_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (2.0, 1.4142)
    """Weight of each level's loss, finest first; one at least must be above 0. The authors' code takes 2^(1/l) for
    l = 1, 2, ..."""
    temperature: PositiveFloat = 0.07
    """Temperature by which cosine similarities are divided. 0.07 is the default of the authors' code."""

    def __post_init__(self) -> None:
        if not any(self.level_weights):
            raise ValueError(f"level_weights {list(self.level_weights)}: one must be above 0, e.g. [2.0, 1.4142]")
