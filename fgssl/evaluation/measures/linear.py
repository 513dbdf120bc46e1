"""Accuracy of a linear classifier on frozen features, at several shares of the labels."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from fgssl.settings.declare import (
    FiniteFloat,
    FractionBelowOne,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    settings,
)
from fgssl.settings.measure import Column, Measure

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits


@settings
class LinearProbe(Measure):
    """A linear classifier on frozen features (protocol of MoCo, He et al. 2020)."""

    recipe: Literal["selected", "fixed"] = "selected"
    """`selected`: cached features, the rate chosen on held-out training labels. `fixed`: the recipe of Synthesized
    Pairs, the one rate of `learning_rates`, random crops and flips drawn anew every epoch."""
    label_fractions: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        1.0,
        0.5,
        0.2,
    )
    """Shares of the training labels, stratified by class."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    validation_fraction: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2
    """Share of the labeled images that is held out to choose the learning rate, whole groups (tracks) at a time."""
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

    @classmethod
    def default(cls) -> Self:
        return cls()

    @property
    def percents(self) -> list[str]:
        """The label fractions as column names end in them: `20` for 0.2."""
        return [f"{100 * fraction:g}" for fraction in self.label_fractions]

    def columns(self) -> list[Column]:
        return [Column(name=f"linear_{percent}", unit="percent") for percent in dict.fromkeys(self.percents)]

    def check(self, splits: "Splits") -> None:
        from fgssl.evaluation.linear import label_subsets, validation_splits

        labels, seed = splits.train_labels, splits.seed
        if len(set(self.learning_rates)) > 1:
            subsets = label_subsets(labels, self.label_fractions, seed)
            validation_splits(labels, splits.train.groups, subsets, self.validation_fraction, seed)

    def value(self, features: "Features") -> dict[str, float]:
        from fgssl.evaluation import linear

        labels, seed = features.train_labels, features.seed
        sgd = linear.SGD(self.epochs, self.batch_size, self.momentum, self.weight_decay, self.milestones)
        subsets = linear.label_subsets(labels, self.label_fractions, seed)
        rates = [self.learning_rates[0]] * len(subsets)
        if len(set(self.learning_rates)) > 1:
            splits = linear.validation_splits(labels, features.train.groups, subsets, self.validation_fraction, seed)
            rates = linear.best_learning_rates(
                features.of_train, labels, splits, self.learning_rates, sgd, seed, features.track
            )
        train = features.of_random_train_views if self.recipe == "fixed" else lambda epoch: features.of_train
        trained = linear.fit(train, labels, subsets, [(rate,) for rate in rates], sgd, seed, features.track)
        accuracies = linear.accuracies(trained, features.of_test, features.test_labels)
        return {f"linear_{percent}": value for percent, value in zip(self.percents, accuracies, strict=True)} | {
            f"learning_rate_{percent}": rate for percent, rate in zip(self.percents, rates, strict=True)
        }
