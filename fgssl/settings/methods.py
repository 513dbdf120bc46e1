"""Settings of the methods: each class is one `method.name` and one line of `METHODS`.

A class holds everything that is known of its method without torch; `implementation` is the path of what computes.
"""

import itertools
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fgssl.settings.declare import (
    ChosenByName,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    settings,
)
from fgssl.settings.noise import NoiseSettings

if TYPE_CHECKING:  # both know the methods
    from fgssl.settings.config import Config
    from fgssl.store.manifest import Manifest

METHODS: dict[str, str] = {
    "start_encoder": "fgssl.settings.methods:StartEncoderSettings",
    "cross_entropy": "fgssl.settings.methods:CrossEntropySettings",
    "simclr": "fgssl.settings.methods:SimCLRSettings",
    "supcon": "fgssl.settings.methods:SupConSettings",
    "hcl": "fgssl.settings.methods:HCLSettings",
    "n_pairs": "fgssl.settings.methods:NPairsSettings",
    "mocov2": "fgssl.settings.methods:MoCoV2Settings",
    "simsiam": "fgssl.settings.methods:SimSiamSettings",
    "byol": "fgssl.settings.methods:BYOLSettings",
    "synthesized": "fgssl.settings.methods:SynthesizedSettings",
    "decoder": "fgssl.settings.methods:DecoderPretrainingSettings",
}
"""Dotted path of the settings class of each method."""
BASES = {name: METHODS[name] for name in ("mocov2", "simsiam")}
"""Methods that synthesized pairs can be built on."""


@settings
class MethodSettings:
    """Settings of a method, and everything that is known of it before it is built."""

    implementation: ClassVar[str]
    """Dotted path, `module:class`, of the `fgssl.methods.method.Method`; imported when a run is built."""
    networks: ClassVar[tuple[str, ...]] = ("encoder",)
    """Networks that it exports and can start from, each named as in `start`; it needs a `decoder` if that is one."""
    trains: ClassVar[bool] = True
    """Whether anything is trained."""
    num_views: ClassVar[int | None] = 2
    """Number of augmented views of an image that it takes; None if it takes as many as `views.recipes` makes."""
    needs_labels: ClassVar[bool] = False
    """Whether it tells classes apart."""
    has_target_network: ClassVar[bool] = False
    """Whether it keeps a moving average of its weights (an EMA), which needs all weights on every process."""

    name: str

    @property
    def label_level(self) -> int:
        """Level of the labels whose classes it tells apart: its setting `level`, or the finest if it has none."""
        return getattr(self, "level", 0)

    def canonical(self) -> "MethodSettings":
        """Return the one spelling of all settings that train alike."""
        return self

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield an error for each setting of `config` that does not fit this method."""
        if self.has_target_network and config.resources.engine == "zero3":
            yield (
                f"resources.engine zero3: the moving average of {self.name} needs all weights on every process, which "
                "zero3 divides: take ddp or zero0 to zero2"
            )

    def lacks(self, manifest: "Manifest") -> Iterator[str]:
        """Yield an error for each thing that the method needs and the dataset does not have."""
        if not self.needs_labels:
            return
        level = self.label_level
        if not manifest.levels:
            yield (
                f"method.name: {self.name} needs labels, but {manifest.title} is unlabeled: pack its images in a "
                "folder for each class, or take a method without labels, such as simclr"
            )
        elif level >= len(manifest.levels):
            yield manifest.no_level("method.level", level)
        elif sum(count > 0 for count in manifest.class_counts["train"][level]) < 2:
            yield (
                f"method.name: {self.name} tells classes apart, but all {manifest.count('train')} training images of "
                f"{manifest.title} are of one {manifest.levels[level].name} (level {level}): pack images of two or "
                "more, or take another level or a method without labels, such as simclr"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield a warning for each thing to know of training on the dataset, though it can be done."""
        yield from ()


@settings
class StartEncoderSettings(MethodSettings):
    """The start encoder, evaluated as it is (Table 1's first row)."""

    trains = False
    num_views = 0

    name: Literal["start_encoder"] = "start_encoder"


@settings
class MoCoV2Settings(MethodSettings):
    """MoCo v2 (He et al. 2020; Chen et al. 2020, arXiv:2003.04297)."""

    implementation = "fgssl.methods.mocov2:MoCoV2"
    has_target_network = True

    name: Literal["mocov2"] = "mocov2"
    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    temperature: PositiveFloat = 0.2
    queue_size: PositiveInt = 65536
    """Past keys that serve as negatives; a multiple of the global batch size."""
    momentum: FractionBelowOne = 0.999
    """Momentum of the key encoder's moving average, per step."""

    def faults(self, config: "Config") -> Iterator[str]:
        yield from super().faults(config)
        batch = config.training.global_batch_size
        if self.queue_size % batch:
            yield (
                f"queue_size {self.queue_size} must be a multiple of training.global_batch_size {batch}: "
                f"take {max(1, round(self.queue_size / batch)) * batch}"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        images = manifest.count("train")
        if self.queue_size > images:
            yield (
                f"queue_size {self.queue_size} exceeds the {images} training images of {manifest.title}: the queue "
                f"holds about {self.queue_size / images:.1f} stale keys of every image, its own among its negatives"
            )


@settings
class DecoderPretrainingSettings(MethodSettings):
    """The decoder alone, by mean squared error on resized images, the encoder frozen."""

    implementation = "fgssl.methods.decoder_pretraining:DecoderPretraining"
    num_views = 0
    networks = ("encoder", "decoder")

    name: Literal["decoder"] = "decoder"


@settings
class SimSiamSettings(MethodSettings):
    """SimSiam (Chen and He 2021, arXiv:2011.10566)."""

    implementation = "fgssl.methods.simsiam:SimSiam"

    name: Literal["simsiam"] = "simsiam"
    hidden_width: PositiveInt = 2048
    """Hidden width of the projector's three layers."""
    projection_width: PositiveInt = 2048
    predictor_width: PositiveInt = 512
    """Width of the predictor's hidden layer."""
    constant_predictor_rate: bool = True
    """Whether the predictor keeps the schedule's first learning rate throughout, as the official code has it."""


@settings
class BYOLSettings(MethodSettings):
    """BYOL (Grill et al. 2020, arXiv:2006.07733).

    Its own views, at the paper's scale: `views: {crop_area: [0.08, 1.0], saturation: 0.2, recipes: [{blur_probability:
    1.0}, {blur_probability: 0.1, solarize_probability: 0.2}]}`.
    """

    implementation = "fgssl.methods.byol:BYOL"
    has_target_network = True

    name: Literal["byol"] = "byol"
    hidden_width: PositiveInt = 4096
    """Hidden width of the projector and the predictor."""
    projection_width: PositiveInt = 256
    momentum: FractionBelowOne = 0.996
    """Momentum of the target network's moving average at the start; it rises to 1 by a cosine."""


@settings
class ProjectedSettings(MethodSettings):
    """Settings of methods that compare what a head of two layers makes of features."""

    hidden_width: PositiveInt = 2048
    projection_width: PositiveInt = 128
    head_batch_norm: bool = True
    """BatchNorm after both layers of the head, as in SimCLR's official code. SupCon's has none, but without it all
    embeddings start in nearly one direction, and short trainings of small encoders stayed there:
    see docs/explanation/results.md."""
    temperature: PositiveFloat = 0.1


@settings
class SimCLRSettings(ProjectedSettings):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

    implementation = "fgssl.methods.simclr:SimCLR"

    name: Literal["simclr"] = "simclr"


@settings
class CrossEntropySettings(MethodSettings):
    """A linear classifier on the encoder, trained together with it (or alone: `encoder.frozen`)."""

    implementation = "fgssl.methods.cross_entropy:CrossEntropy"
    num_views = 1
    networks = ("encoder", "classifier")
    needs_labels = True

    name: Literal["cross_entropy"] = "cross_entropy"
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""

    def faults(self, config: "Config") -> Iterator[str]:
        yield from super().faults(config)
        evaluation = config.evaluation
        if evaluation is not None and evaluation.classifier and evaluation.label_level != self.level:
            yield (
                f"evaluation.classifier: method.level {self.level} is learnt, but evaluation.label_level "
                f"{evaluation.label_level} measured: give both the same"
            )


@settings
class SupConSettings(ProjectedSettings):
    """Supervised contrastive learning, L_out (Khosla et al. 2020, arXiv:2004.11362, Eq. 2)."""

    implementation = "fgssl.methods.supcon:SupCon"
    needs_labels = True

    name: Literal["supcon"] = "supcon"
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""


@settings
class HCLSettings(ProjectedSettings):
    """Supervised contrastive learning on several levels of labels, with soft positive pairs (Chamidullin)."""

    implementation = "fgssl.methods.hcl:HCL"
    needs_labels = True

    name: Literal["hcl"] = "hcl"
    level_weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (1.0, 0.1)
    """Weight of a pair by the finest level that it shares, finest first: (1, lambda) for species and genus."""
    weighting: Literal["pair", "mass"] = "pair"
    """`pair`: the weights are of pairs, so many genus positives outweigh few of the species. `mass`: a mean of SupCon's
    loss at each level, (1 - lambda) on species and lambda on genus, whatever the number of positives."""

    def __post_init__(self) -> None:
        weights = self.level_weights
        if not weights[0] or any(finer < coarser for finer, coarser in itertools.pairwise(weights)):
            raise ValueError(f"level_weights {list(weights)}: must begin above 0 and never rise, e.g. [1.0, 0.1]")

    def lacks(self, manifest: "Manifest") -> Iterator[str]:
        weights, levels = list(self.level_weights), len(manifest.levels)
        if 0 < levels < len(weights):
            yield (
                f"method.level_weights: {weights} are {len(weights)} weights, but {manifest.listed_levels}: give one "
                f"weight a level, finest first, {levels} at most"
            )
        else:
            yield from super().lacks(manifest)


@settings
class NPairsSettings(MethodSettings):
    """n-pairs over cosine similarities, the diagonal among the positives (Guan's course on contrastive learning)."""

    implementation = "fgssl.methods.n_pairs:NPairs"
    num_views = 1
    needs_labels = True

    name: Literal["n_pairs"] = "n_pairs"
    projection_width: PositiveInt = 128
    temperature: PositiveFloat = 0.05
    level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""


@settings
class SynthesizedSettings(MethodSettings):
    """Synthesized pairs on a base method (Wang et al., ECCV 2024, Eq. 8): L = L_C + alpha L_R + nu L_P."""

    implementation = "fgssl.methods.synthesized:Synthesized"
    networks = ("encoder", "decoder")

    name: Literal["synthesized"] = "synthesized"
    base: Annotated[MethodSettings, ChosenByName(BASES, default="mocov2")] = field(default_factory=MoCoV2Settings)
    noise: NoiseSettings = NoiseSettings()
    reconstruction_weight: NonNegativeFloat = 0.5
    """Weight alpha of the reconstruction loss L_R."""
    pair_weight: NonNegativeFloat = 0.5
    """Weight nu (lambda in Table 6) of the pair loss L_P."""
    bank_size: PositiveInt = 1024
    """Number K of feature vectors of non-augmented images that are kept for the variance."""
    detach_pairs: bool = True
    """Whether L_P's gradient stops at the synthesized images."""

    def canonical(self) -> MethodSettings:
        """Return the base method where no noise is added: it has no pairs to learn from."""
        return self.base if self.noise.variant == "none" else self

    def faults(self, config: "Config") -> Iterator[str]:
        yield from self.base.faults(config)
        group = config.encoder.batch_norm_group_size
        if self.bank_size < group:
            yield (
                f"method.bank_size {self.bank_size} is smaller than encoder.batch_norm_group_size {group}: "
                "the bank is filled a group at a time"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        yield from self.base.cautions(manifest)
