"""How a frozen encoder is measured."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from fgssl.settings.declare import (
    FiniteFloat,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    settings,
)


@settings
class LinearProbeSettings:
    """A linear classifier on frozen features (protocol of MoCo, He et al. 2020)."""

    recipe: Literal["selected", "fixed"] = "selected"
    """`selected`: cached features, the rate chosen on held-out training labels. `fixed`: the seed's recipe, the one
    rate of `learning_rates`, random crops and flips drawn anew every epoch."""
    label_fractions: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        1.0,
        0.5,
        0.2,
    )
    """Shares of the training labels, stratified by class."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    validation_fraction: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2
    """Of the labeled images, whole groups (tracks) at a time, to choose the learning rate."""
    epochs: PositiveInt = 100
    batch_size: PositiveInt = 128
    momentum: FractionBelowOne = 0.9
    weight_decay: NonNegativeFloat = 0.0
    milestones: tuple[Annotated[FiniteFloat, Field(gt=0, lt=1)], ...] = (0.6, 0.8)
    """Progress at which the rate is multiplied by 0.1."""

    def __post_init__(self) -> None:
        if self.recipe == "fixed" and len(self.learning_rates) > 1:
            raise ValueError(
                f"recipe fixed chooses no rate, but learning_rates holds {len(self.learning_rates)}: give one, "
                "learning_rates: [30.0] is MoCo's"
            )


@settings
class KNNSettings:
    """Weighted vote of the nearest training images (Wu et al. 2018, arXiv:1805.01978)."""

    neighbors: PositiveInt = 20
    temperature: PositiveFloat = 0.07


@settings
class OutlierSettings:
    """Test images whose nearest class centroid is another class's, counted for each named level."""

    levels: Annotated[dict[str, NonNegativeInt], Field(min_length=1)]
    """Name in the table -> level of the labels, e.g. {species: 0, genus: 1}."""
    centroids: Literal["train", "test"] = "train"
    """The split whose features the centroids are of."""


@settings
class EvaluationSettings:
    """Which measures are taken. Empty or false ones are left out; the last five are so unless asked for."""

    label_level: NonNegativeInt = 0
    """Level of the labels of all measures but the outliers: 0 is the finest (species)."""
    linear: LinearProbeSettings | None = LinearProbeSettings()
    retrieval: bool = True
    knn: KNNSettings | None = None
    outliers: OutlierSettings | None = None
    nuisances: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = field(default_factory=dict)
    """Name in the table -> attributes of the data that a linear model tries to read from the features: what a good
    encoder of species ignores, e.g. {light: [brightness, warmth]}."""
    collapse: bool = False
    """Whether to tell how evenly the features are spread and how many dimensions they fill."""
    classifier: bool = False
    """Whether to measure the classifier that `cross_entropy` trained."""

    def __post_init__(self) -> None:
        own = (self.linear, self.retrieval, self.knn, self.outliers, self.nuisances, self.collapse, self.classifier)
        if not any(own):
            raise ValueError("no measure is asked for: give linear, retrieval, knn, outliers, nuisances, ...")
