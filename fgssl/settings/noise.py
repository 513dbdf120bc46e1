"""Where and how much a feature vector is perturbed."""

from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import NUMBER, Fraction, NonNegativeFloat, one_of, settings

_GRAD_CAM = {"grad_cam": "fgssl.noises.perturbation:by_grad_cam"}
_LOW_VARIANCE = {"low_variance": "fgssl.noises.perturbation:by_low_variance"}
VARIANTS: dict[str, dict[str, str]] = {
    "both": _GRAD_CAM | _LOW_VARIANCE,
    "grad_cam": _GRAD_CAM,
    "low_variance": _LOW_VARIANCE,
    "random": {"random": "fgssl.noises.perturbation:alike"},
    "none": {},
}
"""Terms whose sum is the noise of each variant. A term has the name of its stream of random numbers and the dotted path
of a function: `fgssl.noises.perturbation.Deviations` -> standard deviation, (N, D) or what broadcasts to it."""


@settings
class QuantileThreshold:
    """A threshold given as the share of dimensions under it: those of lowest spread."""

    quantile: Fraction


@settings
class NoiseSettings:
    """Where and how much a feature vector is perturbed (*Synthesized Pairs*, Eq. 3 to 6)."""

    variant: Annotated[str, one_of(VARIANTS)] = "both"
    """`random`: every dimension alike, mean square matched to `both`; `none`: the base method, no decoder."""
    sigma_grad_cam: NonNegativeFloat = 0.5
    """Eq. 5, in `unit`."""
    sigma_low_variance: NonNegativeFloat = 0.5
    """Eq. 6, in `unit`."""
    unit: Literal["feature_std", "absolute"] = "feature_std"
    """`feature_std`: multiples of the mean per-dimension standard deviation of the feature bank."""
    gradient_sign: Annotated[Literal[-1, 1], NUMBER] = -1
    """Eq. 3: -1 takes a = -dL/df (dimensions that lower the loss), +1 takes a = +dL/df."""
    threshold: Annotated[float, Field(ge=0), NUMBER] | QuantileThreshold = 0.02
    """Eq. 6, tau: a number, `.inf` (every dimension) or `{quantile: q}`."""
    statistic: Literal["std", "var"] = "std"
    """Spread of a feature dimension over the bank, scaled to a bank of 1024 rows."""
    normalization: Literal["column", "row", "none"] = "column"
    """Rows or columns of the bank to l2-normalize before the spread is taken."""
