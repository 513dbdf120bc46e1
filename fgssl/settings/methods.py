"""Which method trains the encoder. Each class is one entry of `method.name`."""

import itertools
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import (
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    default_name,
    settings,
)
from fgssl.settings.noise import NoiseSettings


@settings
class StartEncoderSettings:
    """The start encoder, evaluated as it is (Table 1's first row)."""

    name: Literal["start_encoder"] = "start_encoder"


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


@settings
class SimSiamSettings:
    """SimSiam (Chen and He 2021, arXiv:2011.10566)."""

    name: Literal["simsiam"] = "simsiam"
    hidden_width: PositiveInt = 2048
    """Of the projector's three layers."""
    projection_width: PositiveInt = 2048
    predictor_width: PositiveInt = 512
    """Of the predictor's hidden layer."""
    constant_predictor_rate: bool = True
    """Whether the predictor keeps the schedule's first learning rate throughout, as the official code has it."""


@settings
class BYOLSettings:
    """BYOL (Grill et al. 2020, arXiv:2006.07733)."""

    name: Literal["byol"] = "byol"
    hidden_width: PositiveInt = 4096
    """Of the projector and the predictor."""
    projection_width: PositiveInt = 256
    momentum: FractionBelowOne = 0.996
    """Of the target network's moving average at the start; rises to 1 by a cosine."""


@settings
class SimCLRSettings:
    """SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

    name: Literal["simclr"] = "simclr"
    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    head_batch_norm: bool = True
    """BatchNorm after both layers of the head, as SimCLR's official code has it."""
    temperature: PositiveFloat = 0.1


@settings
class CrossEntropySettings:
    """A linear classifier on the encoder, trained together with it (or alone: `encoder.frozen`)."""

    name: Literal["cross_entropy"] = "cross_entropy"
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""


@settings
class SupConSettings:
    """Supervised contrastive learning, L_out (Khosla et al. 2020, arXiv:2004.11362, Eq. 2)."""

    name: Literal["supcon"] = "supcon"
    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    head_batch_norm: bool = True
    """BatchNorm after both layers of the head, as in SimCLR's official code. SupCon's has none, but without it all
    embeddings start in nearly one direction, and short trainings of small encoders stayed there (docs/results.md)."""
    temperature: PositiveFloat = 0.1
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""


@settings
class HCLSettings:
    """Supervised contrastive learning on several levels of labels, with soft positive pairs (Chamidullin)."""

    name: Literal["hcl"] = "hcl"
    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    head_batch_norm: bool = True
    """BatchNorm after both layers of the head, as in SimCLR's official code. SupCon's has none, but without it all
    embeddings start in nearly one direction, and short trainings of small encoders stayed there (docs/results.md)."""
    temperature: PositiveFloat = 0.1
    level_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (1.0, 0.1)
    """Weight of a pair by the finest level that it shares, finest first: (1, lambda) for species and genus."""
    weighting: Literal["pair", "mass"] = "pair"
    """`pair`: the weights are of pairs, so many genus positives outweigh few of the species. `mass`: a mean of SupCon's
    loss at each level, (1 - lambda) on species and lambda on genus, whatever the number of positives."""

    def __post_init__(self) -> None:
        weights = self.level_weights
        if not weights[0] or any(finer < coarser for finer, coarser in itertools.pairwise(weights)):
            raise ValueError(f"level_weights {list(weights)}: must begin above 0 and never rise, e.g. [1.0, 0.1]")


@settings
class NPairsSettings:
    """n-pairs over cosine similarities, the diagonal among the positives (Guan's course on contrastive learning)."""

    name: Literal["n_pairs"] = "n_pairs"
    projection_width: PositiveInt = 128
    temperature: PositiveFloat = 0.05
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""


BaseMethodSettings = Annotated[MoCoV2Settings | SimSiamSettings, Field(discriminator="name"), default_name("mocov2")]
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
    StartEncoderSettings
    | CrossEntropySettings
    | SimCLRSettings
    | SupConSettings
    | HCLSettings
    | NPairsSettings
    | MoCoV2Settings
    | SimSiamSettings
    | BYOLSettings
    | SynthesizedSettings
    | DecoderPretrainingSettings,
    Field(discriminator="name"),
]

SUPERVISED = (CrossEntropySettings, SupConSettings, HCLSettings, NPairsSettings)
"""Methods that need labels."""
