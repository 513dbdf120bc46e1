"""Section `method`: each class is one `method.name` and one line of `METHODS`.

A class holds the settings of its method and the traits that are needed without torch; `implementation` is the path of
the code that computes.
"""

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from fgssl.registries import Registry
from fgssl.settings.batch_sizes import fitting_sizes
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

if TYPE_CHECKING:  # both import this module
    from fgssl.settings.config import Config
    from fgssl.store.manifest import Manifest

METHODS = Registry(
    f"{__file__}: METHODS",
    {
        "start_encoder": "fgssl.settings.methods:StartEncoderSettings",
        "cross_entropy": "fgssl.settings.methods:CrossEntropySettings",
        "simclr": "fgssl.settings.methods:SimCLRSettings",
        "supcon": "fgssl.settings.methods:SupConSettings",
        "hcl": "fgssl.settings.hierarchy:HCLSettings",
        "hmlc": "fgssl.settings.hierarchy:HMLCSettings",
        "n_pairs": "fgssl.settings.methods:NPairsSettings",
        "mocov2": "fgssl.settings.methods:MoCoV2Settings",
        "simsiam": "fgssl.settings.methods:SimSiamSettings",
        "byol": "fgssl.settings.methods:BYOLSettings",
        "dino": "fgssl.settings.without_negatives:DINOSettings",
        "barlow_twins": "fgssl.settings.without_negatives:BarlowTwinsSettings",
        "vicreg": "fgssl.settings.without_negatives:VICRegSettings",
        "synthesized": "fgssl.settings.methods:SynthesizedSettings",
        "lcr": "fgssl.settings.feature_maps:LCRSettings",
        "sam_ssl_bilinear": "fgssl.settings.feature_maps:SAMSSLBilinearSettings",
        "lewel": "fgssl.settings.feature_maps:LEWELSettings",
        "decoder": "fgssl.settings.methods:DecoderPretrainingSettings",
        "pixels": "fgssl.settings.sanity:PixelsSettings",
        "chance": "fgssl.settings.sanity:ChanceSettings",
    },
)
"""Dotted path of the settings class of each method."""
BASES = Registry(f"{__file__}: BASES", {name: METHODS[name] for name in ("mocov2", "simsiam", "byol", "dino")})
"""Methods on which synthesized pairs can be built."""


@settings
class MethodSettings:
    """Settings of a method, and its traits that are needed before it is built."""

    implementation: ClassVar[str]
    """Dotted path of the `fgssl.methods.method.Method`, module and class joined by a colon. It is imported when a run
    is built."""
    networks: ClassVar[tuple[str, ...]] = ("encoder",)
    """Networks that the method exports and can start from, by their keys in `start`. A method with `decoder` among them
    needs the section `decoder`."""
    poolings: ClassVar[tuple[str, ...]] = ()
    """Poolings of the feature map that the method exports besides the encoder, by their names in
    `evaluation.pooling`."""
    trains: ClassVar[bool] = True
    """Whether the method trains anything."""
    stand_in: ClassVar[str] = ""
    """Dotted path of the `fgssl.encoders.stand_ins.StandIn` that is measured in place of the encoder, if any."""
    num_views: ClassVar[int | None] = 2
    """Number of augmented views of each image, or None for as many as `views.recipes` make."""
    needs_labels: ClassVar[bool] = False
    """Whether the method trains on labels."""
    has_target_network: ClassVar[bool] = False
    """Whether the method keeps a moving average (EMA) of its weights, for which every process needs all of them."""

    name: str
    """Name of the method, a key of `METHODS`."""

    @property
    def label_level(self) -> int:
        """Level of the labels that the method trains on: its setting `level`, or the finest if it has none."""
        return getattr(self, "level", 0)

    @property
    def added_noise(self) -> NoiseSettings | None:
        """Noise that the method adds to features, or None if it adds none."""
        return None

    def canonical(self) -> "MethodSettings":
        """Return the settings in the one spelling that all equivalent settings share."""
        return self

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit this method."""
        if self.has_target_network and config.resources.engine == "zero3":
            yield (
                f"resources.engine zero3: the moving average of {self.name} needs all weights on every process, but "
                "zero3 divides them: take ddp or zero0 to zero2"
            )

    def lacks(self, manifest: "Manifest") -> Iterator[str]:
        """Yield a message for each thing that the method needs and the dataset lacks."""
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
                f"method.name: {self.name} separates classes, but all {manifest.count('train')} training images of "
                f"{manifest.title} belong to one {manifest.levels[level].name} (level {level}): pack images of two or "
                "more, or take another level or a method without labels, such as simclr"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield a warning for each thing that makes training on the dataset doubtful, though possible."""
        yield from ()


@settings
class StartEncoderSettings(MethodSettings):
    """No method: the start encoder is evaluated without training (the first row of Table 1 in *Synthesized Pairs*)."""

    trains = False
    num_views = 0

    name: Literal["start_encoder"] = "start_encoder"


@settings
class MoCoV2Settings(MethodSettings):
    """MoCo v2 (He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297). All defaults are v2's."""

    implementation = "fgssl.methods.mocov2:MoCoV2"
    has_target_network = True

    name: Literal["mocov2"] = "mocov2"
    hidden_width: PositiveInt = 2048
    """Width of the hidden layer of the head, which has two layers without BatchNorm."""
    projection_width: PositiveInt = 128
    """Width of queries and keys."""
    temperature: PositiveFloat = 0.2
    """Temperature of InfoNCE, and of the pair loss in synthesized pairs. 0.2 is best with a two-layer head."""
    queue_size: PositiveInt = 65536
    """Number of past keys that serve as negatives, a multiple of `training.global_batch_size`. With a queue longer than
    the dataset, stale keys of an image are among its own negatives."""
    momentum: FractionBelowOne = 0.999
    """Momentum of the key encoder's moving average, per step."""

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit; batches must fill the queue exactly."""
        yield from super().faults(config)
        batch = config.training.global_batch_size
        if self.queue_size % batch:
            yield (
                f"queue_size {self.queue_size} must be a multiple of training.global_batch_size {batch}: "
                f"{fitting_sizes(config)}"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield a warning if the queue is longer than the dataset."""
        images = manifest.count("train")
        if self.queue_size > images:
            yield (
                f"queue_size {self.queue_size} exceeds the {images} training images of {manifest.title}: the queue "
                f"holds about {self.queue_size / images:.1f} stale keys of every image, its own among its negatives: "
                f"take a multiple of training.global_batch_size, {images} at most"
            )


@settings
class DecoderPretrainingSettings(MethodSettings):
    """Pre-training of the decoder on a frozen encoder (*Synthesized Pairs*, App. B.2).

    The loss is the mean squared error between resized images and their reconstruction.
    """

    implementation = "fgssl.methods.decoder_pretraining:DecoderPretraining"
    num_views = 0
    networks = ("encoder", "decoder")

    name: Literal["decoder"] = "decoder"


@settings
class SimSiamSettings(MethodSettings):
    """SimSiam (Chen and He 2021, arXiv:2011.10566). All defaults are the paper's."""

    implementation = "fgssl.methods.simsiam:SimSiam"

    name: Literal["simsiam"] = "simsiam"
    hidden_width: PositiveInt = 2048
    """Width of the two hidden layers of the projector, which has three layers with BatchNorm."""
    projection_width: PositiveInt = 2048
    """Width of the projections and of the predictions."""
    predictor_width: PositiveInt = 512
    """Width of the predictor's hidden layer, a bottleneck of a quarter of `projection_width`."""
    constant_predictor_rate: bool = True
    """Whether the predictor keeps the initial learning rate. The paper finds this better, because the predictor should
    adapt to the latest representations."""


@settings
class BYOLSettings(MethodSettings):
    """BYOL (Grill et al. 2020, arXiv:2006.07733). All defaults are the paper's.

    The paper's own views, at its scale, are `views: {crop_area: [0.08, 1.0], saturation: 0.2, recipes:
    [{blur_probability: 1.0}, {blur_probability: 0.1, solarize_probability: 0.2}]}`.
    """

    implementation = "fgssl.methods.byol:BYOL"
    has_target_network = True

    name: Literal["byol"] = "byol"
    hidden_width: PositiveInt = 4096
    """Hidden width of the projector and the predictor, which have two layers each."""
    projection_width: PositiveInt = 256
    """Width of the projections and of the predictions."""
    momentum: FractionBelowOne = 0.996
    """Initial momentum of the target network's moving average, per step. It rises to 1 along half a cosine."""


@settings
class ProjectedSettings(MethodSettings):
    """Settings that methods with a projection head of two layers share."""

    hidden_width: PositiveInt = 2048
    """Width of the hidden layer of the head. 2048 is the width of ResNet-50's features, as in SimCLR and SupCon."""
    projection_width: PositiveInt = 128
    """Width of the embeddings that the loss compares, as in SimCLR and SupCon."""
    head_batch_norm: bool = True
    """Whether BatchNorm follows both layers of the head, as in SimCLR's official code. SupCon's head has none, but
    without it all embeddings start in nearly one direction, and short trainings of small encoders did not leave it
    (docs/explanation/results.md)."""
    temperature: PositiveFloat = 0.1
    """Temperature by which cosine similarities are divided. SimCLR (on ImageNet) and SupCon take 0.1; no value is
    published for HCL."""


@settings
class SimCLRSettings(ProjectedSettings):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

    implementation = "fgssl.methods.simclr:SimCLR"

    name: Literal["simclr"] = "simclr"


@settings
class CrossEntropySettings(MethodSettings):
    """Cross-entropy of a linear classifier on the encoder, trained with it, or alone if `encoder.frozen` is `[all]`."""

    implementation = "fgssl.methods.cross_entropy:CrossEntropy"
    num_views = 1
    networks = ("encoder", "classifier")
    needs_labels = True

    name: Literal["cross_entropy"] = "cross_entropy"
    level: NonNegativeInt = 0
    """Level of the labels whose classes are separated. 0 is the finest (species)."""

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit; levels trained and measured must agree."""
        yield from super().faults(config)
        evaluation = config.evaluation
        if evaluation is not None and evaluation.classifier and evaluation.label_level != self.level:
            yield (
                f"evaluation.classifier: the classifier is trained on method.level {self.level}, but measured on "
                f"evaluation.label_level {evaluation.label_level}: give both the same value"
            )


@settings
class SupConSettings(ProjectedSettings):
    """SupCon, supervised contrastive learning with the loss L_out (Khosla et al. 2020, arXiv:2004.11362, Eq. 2)."""

    implementation = "fgssl.methods.supcon:SupCon"
    needs_labels = True

    name: Literal["supcon"] = "supcon"
    level: NonNegativeInt = 0
    """Level of the labels whose classes are separated. 0 is the finest (species)."""


@settings
class NPairsSettings(MethodSettings):
    """N-pairs over cosine similarities, each image among its own positives (Guan's course on contrastive learning).

    The defaults are those of the example that the course follows (keras.io, supervised contrastive learning).
    """

    implementation = "fgssl.methods.n_pairs:NPairs"
    num_views = 1
    needs_labels = True

    name: Literal["n_pairs"] = "n_pairs"
    projection_width: PositiveInt = 128
    """Width of the embeddings, which one linear layer with ReLU makes."""
    temperature: PositiveFloat = 0.05
    """Temperature by which cosine similarities are divided."""
    level: NonNegativeInt = 0
    """Level of the labels whose classes are separated. 0 is the finest (species)."""


@settings
class SynthesizedSettings(MethodSettings):
    """Synthesized Pairs on a base method (Wang et al., ECCV 2024): the loss L = L_C + alpha L_R + nu L_P (Eq. 8)."""

    implementation = "fgssl.methods.synthesized:Synthesized"
    networks = ("encoder", "decoder")

    name: Literal["synthesized"] = "synthesized"
    base: Annotated[MethodSettings, ChosenByName(BASES, default="mocov2")] = field(default_factory=MoCoV2Settings)
    """Method whose contrastive loss is L_C, chosen by its `name`: mocov2 (the default, as in the paper's Table 1),
    simsiam (in its Table 3), byol or dino. The last two are not in the paper, and their L_P is our choice: the loss of
    the base between both images of a pair, where the image that is to be matched gets no gradient. Its projection is
    that of the trained network, not of the slow copy. docs/explanation/methods.md gives the reasons."""
    noise: NoiseSettings = NoiseSettings()
    """Perturbation that turns a feature vector into the second one of a pair."""
    reconstruction_weight: NonNegativeFloat = 0.5
    """Weight alpha of the reconstruction loss L_R. 0.5 and 1 are best in Fig. 5."""
    pair_weight: NonNegativeFloat = 0.5
    """Weight nu of the pair loss L_P (lambda in Table 6, where 0.5 is best). At 0 no pairs are made."""
    bank_size: PositiveInt = 1024
    """Number K of newest feature vectors of non-augmented images over which the spread of a dimension is taken, at
    least `encoder.batch_norm_group_size`. The paper's value is not known; at 1024 its thresholds (Table 7) separate
    dimensions."""
    detach_pairs: bool = True
    """Whether the gradient of L_P stops at the synthesized images, which is our choice. Otherwise encoder and decoder
    can lower L_P by a decoder that ignores its input."""

    @property
    def num_views(self) -> int | None:  # type: ignore[override]
        """Number of views of the base."""
        return self.base.num_views

    @property
    def added_noise(self) -> NoiseSettings | None:
        """Noise that makes the pairs, or None if they have no weight."""
        return self.noise if self.pair_weight else None

    def canonical(self) -> MethodSettings:
        """Return the base method if the variant is `none`, since there are no pairs to learn from."""
        return self.base if self.noise.variant == "none" else self

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit the base method or the bank."""
        yield from self.base.faults(config)
        group = config.encoder.batch_norm_group_size
        if self.bank_size < group:
            yield (
                f"method.bank_size {self.bank_size} must not be smaller than encoder.batch_norm_group_size {group}: "
                f"the bank is filled one group at a time: {fitting_sizes(config)}"
            )

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield the warnings of the base method."""
        yield from self.base.cautions(manifest)
