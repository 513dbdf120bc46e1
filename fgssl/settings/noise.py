"""Where and how much a feature vector is perturbed."""

from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import NUMBER, Fraction, NonNegativeFloat, settings


@settings
class QuantileThreshold:
    """A threshold given as the share of dimensions under it: those of lowest spread."""

    quantile: Fraction


@settings
class NoiseSettings:
    """Where and how much a feature vector is perturbed (seed paper, Eq. 3 to 6)."""

    variant: Literal["both", "grad_cam", "low_variance", "random", "none"] = "both"
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
    """What is l2-normalized in the bank before the spread is taken."""
