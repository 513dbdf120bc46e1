"""How a frozen encoder is measured."""

from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, settings


@settings
class LinearProbeSettings:
    """A linear classifier on frozen features (protocol of MoCo, He et al. 2020)."""

    recipe: Literal["selected", "fixed"] = "selected"
    """`selected`: cached features, the rate chosen on held-out training labels. `fixed`: the seed's recipe, one rate
    (the first of `learning_rates`), random crops and flips drawn anew every epoch."""
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.5, 0.2)
    """Shares of the training labels, stratified by class."""
    learning_rates: tuple[PositiveFloat, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Of the labelled images, whole groups (tracks) at a time, to choose the learning rate."""
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 128
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 0.0
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.6, 0.8)
    """Progress at which the rate is multiplied by 0.1."""


@settings
class EvaluationSettings:
    linear: LinearProbeSettings = LinearProbeSettings()
    label_level: NonNegativeInt = 0
    """Level of the labels: 0 is the finest (species)."""
