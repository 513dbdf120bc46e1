"""Settings `method.noise`: the perturbation of feature vectors in Synthesized Pairs."""

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
"""Terms of each variant, whose sum is its noise. The key of a term names its stream of random numbers. The value is the
dotted path of a function that takes `fgssl.noises.perturbation.Deviations` and returns the standard deviation of the
noise, of shape (N, D) or one that broadcasts to it."""


@settings
class QuantileThreshold:
    """Threshold given by a share of the dimensions instead of a spread."""

    quantile: Fraction
    """Share of the dimensions that count as low-variance, those of lowest spread first."""


@settings
class NoiseSettings:
    """Place and strength of the noise on feature vectors (*Synthesized Pairs*, Eq. 3 to 6)."""

    variant: Annotated[str, one_of(VARIANTS)] = "both"
    """Kind of noise (Tables 4 and 8). `grad_cam` perturbs dimensions on which the contrastive loss does not rest (Eq.
    5), `low_variance` those that hardly vary between images (Eq. 6), and `both` adds the two, as the paper's method
    does. `random` perturbs every dimension alike with the mean square of `both`. `none` is the base method without a
    decoder."""
    sigma_grad_cam: NonNegativeFloat = 0.5
    """Standard deviation of the Grad-CAM noise where the score is 0 (Eq. 5), in `unit`. The paper's values (Fig. 6) are
    not known; 0.5 is our choice."""
    sigma_low_variance: NonNegativeFloat = 0.5
    """Standard deviation of the low-variance noise where the spread is lowest (Eq. 6), in `unit`. The paper's values
    (Fig. 6) are not known; 0.5 is our choice."""
    unit: Literal["feature_std", "absolute"] = "feature_std"
    """Unit of both sigmas. `feature_std` is the standard deviation of a feature dimension over the bank, averaged over
    dimensions, so that a sigma means the same for every encoder. `absolute` is the unit of the features."""
    gradient_sign: Annotated[Literal[-1, 1], NUMBER] = -1
    """Sign in the Grad-CAM score (Eq. 3), which the paper leaves open. -1 takes a = -dL/df and protects dimensions that
    lower the loss, as the paper's text has it. +1 takes a = dL/df."""
    threshold: Annotated[float, Field(ge=0), NUMBER] | QuantileThreshold = 0.02
    """Spread tau below which a dimension counts as low-variance (Eq. 6), in the unit of `statistic`. `.inf` takes every
    dimension, `{quantile: q}` a share of them. 0.02 is best in Table 7."""
    statistic: Literal["std", "var"] = "std"
    """Measure of a dimension's spread over the bank, standard deviation or variance. The variance of a column of unit
    norm is at most 1 / `method.bank_size`: with 1024 rows every dimension would pass the thresholds of Table 7."""
    normalization: Literal["column", "row", "none"] = "column"
    """Vectors of the bank that are l2-normalized before the spread is taken. `column` (Eq. 6) normalizes dimensions and
    scales the result to a bank of 1024 rows, so that tau means the same for every bank size. `row` normalizes
    features."""
