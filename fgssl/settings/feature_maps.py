"""Settings of the methods that learn from feature maps; each class is one line of `METHODS`."""

from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

from fgssl.registries import Registry
from fgssl.settings.declare import ChosenByName, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, settings
from fgssl.settings.methods import METHODS, BYOLSettings, MethodSettings, MoCoV2Settings

if TYPE_CHECKING:
    from fgssl.settings.config import Config
    from fgssl.store.manifest import Manifest

CONTRASTED = Registry(f"{__file__}: CONTRASTED", {name: METHODS[name] for name in ("mocov2", "simsiam", "byol")})
"""Methods with a loss for each image, whose Grad-CAM an attention can fit."""
FOLLOWED = Registry(f"{__file__}: FOLLOWED", {name: METHODS[name] for name in ("byol", "mocov2")})
"""Methods with a slow copy of encoder and head, to which LEWEL adds aligned embeddings."""


@settings
class GradCAMFittingSettings(MethodSettings):
    """Shared settings of methods whose attention fits the Grad-CAM of a base method's loss."""

    base: Annotated[MethodSettings, ChosenByName(CONTRASTED, default="mocov2")] = field(default_factory=MoCoV2Settings)
    """Method whose loss is contrasted and explained, chosen by its `name`: mocov2 (the default, as in Table 3 of
    *Synthesized Pairs*, by our reading), byol or simsiam."""
    parts: PositiveInt = 32
    """Number of parts, the channels of the 1x1 convolution whose strongest one is the attention. 32 as in LCR's
    official code; few parts keep what the images have in common."""
    attention_weight: NonNegativeFloat = 0.01
    """Weight of the divergence of the attention from the Grad-CAM, summed over the images of the batch. 0.01
    and the sum are those of SAM's and LCR's official codes; LCR's batches have 128 images."""
    temperature: PositiveFloat = 1.0
    """Temperature of the softmax over positions, of the attention and of the Grad-CAM. LCR has none, which is 1."""
    gradient_sign: Literal[-1, 1] = 1
    """Sign of the loss's gradient in the Grad-CAM. 1 scores positions that raise the loss, as LCR's official code does;
    -1 scores positions that lower it, as Synthesized Pairs does by default."""

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit the base method."""
        yield from self.base.faults(config)

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield the warnings of the base method."""
        yield from self.base.cautions(manifest)


@settings
class LCRSettings(GradCAMFittingSettings):
    """LCR, which learns a common rationale beside a base method (Shu et al. 2023, arXiv:2303.01669).

    The rationale pools the feature map under `evaluation.pooling: attention`. Unlike in the official code, attention is
    scaled to [0, 1] per image and not over the batch, the softmax is over all positions and not over each line of the
    map, and the Grad-CAM is that of each image's own loss and gets no gradient. The official one is that of the batch's
    mean loss. In a batch of N images its scores are N times smaller, so the softmax of the Grad-CAM is sharper here.
    `temperature` does not make up for this, since it divides the attention too.
    """

    implementation = "fgssl.methods.lcr:LCR"
    poolings = ("attention",)

    name: Literal["lcr"] = "lcr"


@settings
class SAMSSLBilinearSettings(GradCAMFittingSettings):
    """SAM-SSL-Bilinear, a base method on bilinear features of parts (Shu et al. 2022, arXiv:2208.00617).

    The parts pool the feature map under `evaluation.pooling: bilinear`. SAM's official code is for labels, and no code
    of the form without labels is public. That the base contrasts bilinear features is our reading of the name.
    """

    implementation = "fgssl.methods.sam_ssl_bilinear:SAMSSLBilinear"
    poolings = ("bilinear",)

    name: Literal["sam_ssl_bilinear"] = "sam_ssl_bilinear"
    gradient_sign: Literal[-1, 1] = -1
    """Sign of the loss's gradient in the Grad-CAM. -1 scores positions that lower the loss: SAM's official code takes
    the Grad-CAM of the true class's score, in which positive values are evidence for the target. 1 is that of LCR."""
    temperature: PositiveFloat = 0.4
    """Temperature of the softmax over positions, of the attention and of the Grad-CAM. 0.4 as in SAM's official
    code."""
    parts: PositiveInt = 16
    """Number K of parts, which makes bilinear features K times as wide as the feature map. 16 as in SAM's official
    code."""


@settings
class LEWELSettings(MethodSettings):
    """LEWEL, which aligns embeddings of learned regions beside those of images (Huang et al. 2022, arXiv:2203.14898).

    The official code is for BYOL. The form on MoCo v2 follows the paper's idea; its queue of aligned keys is our choice
    and holds the mean over an image's regions, as the second queue of DenseCL does (Wang et al. 2021). Unlike in the
    official code, the BatchNorm of BYOL's head normalizes positions apart from pooled features.
    """

    implementation = "fgssl.methods.lewel:LEWEL"

    name: Literal["lewel"] = "lewel"
    base: Annotated[MethodSettings, ChosenByName(FOLLOWED, default="byol")] = field(default_factory=BYOLSettings)
    """Method whose head makes the maps and whose loss is taken twice, chosen by its `name`: byol (the default, as in
    the official code) or mocov2."""
    groups: PositiveInt = 4
    """Number of groups of channels, each of which has maps of its own. It must divide `base.projection_width`, which it
    divides into as many regions, and the channels of the feature map. 4 as in the official script."""
    temperature: PositiveFloat = 1.0
    """Temperature of the softmax over positions that turns projections of unit length into maps. 1 as in the official
    script."""
    aligned_weight: Fraction = 0.5
    """Weight of the aligned loss; that of the base's loss on images is one minus it. 0.5 as in the official script."""

    def faults(self, config: "Config") -> Iterator[str]:
        """Yield a message for each setting of `config` that does not fit the base method or the groups."""
        yield from self.base.faults(config)
        width: int = self.base.projection_width  # type: ignore[attr-defined]  # of all methods in `FOLLOWED`
        if width % self.groups:
            yield f"method.groups {self.groups} must divide method.base.projection_width {width}"

    def cautions(self, manifest: "Manifest") -> Iterator[str]:
        """Yield the warnings of the base method."""
        yield from self.base.cautions(manifest)
