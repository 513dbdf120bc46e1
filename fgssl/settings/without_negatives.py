"""Settings of methods without negatives that prevent collapse by statistics of the batch: DINO, Barlow Twins, VICReg.

BYOL and SimSiam, whose predictor prevents it, lie in `fgssl.settings.methods`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from fgssl.settings.declare import FractionBelowOne, NonNegativeFloat, PositiveFloat, PositiveInt, settings
from fgssl.settings.methods import MethodSettings

if TYPE_CHECKING:  # which imports this module
    from fgssl.settings.config import Config


@settings
class DINOSettings(MethodSettings):
    """DINO (Caron et al. 2021, arXiv:2104.14294). All defaults are the paper's.

    The first two views of `views.recipes` are the teacher's, and all of them the student's. The paper's own views are
    `views: {crop_area: [0.25, 1.0], saturation: 0.2, recipes: [{blur_probability: 1.0}, {blur_probability: 0.1,
    solarize_probability: 0.2}, {count: 8, image_size: 96, crop_area: [0.05, 0.25]}]}` for a ViT, and areas of
    [0.14, 1.0] and [0.05, 0.14] for a ResNet. docs/explanation/methods.md gives both recipes whole.

    The exported encoder is the teacher's. Every process holds the logits of the global batch: the loss of ten views
    with 65,536 prototypes takes about 10 MB for each of its images. Lower `prototypes` if that is too much.
    """

    implementation = "fgssl.methods.dino:DINO"
    num_views = None
    has_target_network = True

    name: Literal["dino"] = "dino"
    hidden_width: PositiveInt = 2048
    """Width of both hidden layers of the head, which has three layers."""
    head_batch_norm: bool = False
    """Whether BatchNorm follows both hidden layers of the head. The paper has none, so that DINO with a ViT is free of
    BatchNorm; the official code offers it. Without it the embeddings of different images start more alike: a mean
    cosine of 0.5 to 0.6 instead of 0.2 (a small ResNet on `toy`, three seeds). Whether a short training gains from it
    was not measured."""
    projection_width: PositiveInt = 256
    """Width of the bottleneck of the head, whose rows are compared with the prototypes."""
    prototypes: PositiveInt = 65536
    """Number K of prototypes, the dimensions of the distributions. 65,536 is best on ImageNet in the paper's
    Appendix C, and 1,024 is two points of kNN behind."""
    temperature: PositiveFloat = 0.1
    """Temperature of the student."""
    teacher_temperature: PositiveFloat = 0.07
    """Temperature of the teacher after its warm-up. It must be below that of the student, or the teacher's
    distributions become uniform. Values above 0.07 are unstable according to the official code."""
    teacher_temperature_start: PositiveFloat = 0.04
    """Temperature of the teacher at the start of its warm-up."""
    teacher_warm_up_epochs: NonNegativeFloat = 30.0
    """Epochs in which the temperature of the teacher rises linearly. A shorter training ends on the way."""
    momentum: FractionBelowOne = 0.996
    """Initial momentum of the teacher's moving average, per step. It rises to 1 along half a cosine. 0.996 is for
    batches of 1,024; the official code recommends 0.9995 for batches of 256."""
    center_momentum: FractionBelowOne = 0.9
    """Momentum of the center, a moving average of the teacher's logits, per step."""
    prototypes_frozen_epochs: NonNegativeFloat = 1.0
    """Epochs at the start of training in which the prototypes stay as they are; fewer than `training.epochs`."""

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit; the teacher needs two views."""
        yield from super().faults(config)
        if config.views.num_recipes == 1:
            yield (
                "views.recipes makes 1 view, but method dino needs two or more: the first two are its teacher's; give "
                "another recipe or a higher count"
            )
        for key in ("teacher_temperature_start", "teacher_temperature"):
            if getattr(self, key) >= self.temperature:
                yield (
                    f"method.{key} {getattr(self, key):g} must be less than method.temperature {self.temperature:g}: "
                    "the teacher's distributions would become uniform"
                )
        if self.prototypes_frozen_epochs >= config.training.epochs:
            yield (
                f"prototypes_frozen_epochs {self.prototypes_frozen_epochs:g} must be less than training.epochs "
                f"{config.training.epochs}: the prototypes would never be trained"
            )


@settings
class ExpandedSettings(MethodSettings):
    """Settings of the projector that Barlow Twins and VICReg share."""

    hidden_width: PositiveInt = 8192
    """Width of both hidden layers of the projector, which has three layers, the first two with BatchNorm."""
    projection_width: PositiveInt = 8192
    """Width P of the embeddings. Both papers find that wider is better. The loss holds matrices of P x P numbers:
    256 MB each at 8,192."""


@settings
class BarlowTwinsSettings(ExpandedSettings):
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230). All defaults are the paper's.

    The paper's own views are those of BYOL.
    """

    implementation = "fgssl.methods.barlow_twins:BarlowTwins"

    name: Literal["barlow_twins"] = "barlow_twins"
    redundancy_weight: NonNegativeFloat = 0.005
    """Weight lambda of the correlations between different dimensions."""


@settings
class VICRegSettings(ExpandedSettings):
    """VICReg (Bardes et al. 2022, arXiv:2105.04906). All defaults are the paper's.

    The paper's own views are `views: {crop_area: [0.08, 1.0], saturation: 0.2, solarize_probability: 0.1}`, the same
    for both. The official code takes the two different ones of BYOL.
    """

    implementation = "fgssl.methods.vicreg:VICReg"

    name: Literal["vicreg"] = "vicreg"
    invariance_weight: NonNegativeFloat = 25.0
    """Weight lambda of the squared difference between the views."""
    variance_weight: NonNegativeFloat = 25.0
    """Weight mu of the variance, which keeps the standard deviation of each dimension at 1 or above. Without it
    embeddings collapse."""
    covariance_weight: NonNegativeFloat = 1.0
    """Weight nu of the covariances between different dimensions."""
