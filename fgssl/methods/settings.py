"""Which method trains the encoder. Each class is one entry of `method.name`."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from fgssl.noises.settings import NoiseSettings
from fgssl.settings import FractionBelowOne, NonNegativeFloat, PositiveFloat, PositiveInt, settings


@settings
class UntouchedSettings:
    """The start encoder, evaluated as it is (Table 1's first row)."""

    name: Literal["untouched"] = "untouched"


@settings
class MoCoV2Settings:
    """MoCo v2 (He et al. 2020; Chen et al. 2020, arXiv:2003.04297)."""

    name: Literal["mocov2"] = "mocov2"
    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    temperature: PositiveFloat = 0.2
    queue_size: PositiveInt = 65536
    """Past keys that serve as negatives; a multiple of the global batch size."""
    momentum: FractionBelowOne = 0.999
    """Of the key encoder's moving average, per step."""


@settings
class DecoderPretrainingSettings:
    """The decoder alone, by mean squared error on resized images, the encoder frozen."""

    name: Literal["decoder"] = "decoder"


BaseMethodSettings = MoCoV2Settings
"""Methods that synthesized pairs can be built on."""


@settings
class SynthesizedSettings:
    """Synthesized pairs on a base method (seed paper, Eq. 8): L = L_C + alpha L_R + nu L_P."""

    name: Literal["synthesized"] = "synthesized"
    base: BaseMethodSettings = field(default_factory=MoCoV2Settings)
    noise: NoiseSettings = NoiseSettings()
    reconstruction_weight: NonNegativeFloat = 0.5
    """alpha, of the reconstruction loss L_R."""
    pair_weight: NonNegativeFloat = 0.5
    """nu (lambda in Table 6), of the pair loss L_P."""
    bank_size: PositiveInt = 1024
    """K: feature vectors of non-augmented images kept for the variance."""
    detach_pairs: bool = True
    """Whether L_P's gradient stops at the synthesized images."""


MethodSettings = Annotated[
    UntouchedSettings | MoCoV2Settings | SynthesizedSettings | DecoderPretrainingSettings,
    Field(discriminator="name"),
]
