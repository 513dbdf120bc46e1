"""Measure `linear`: accuracy of a linear classifier on frozen features, at several shares of the labels."""

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
    """Linear classifier on frozen features, by the protocol of MoCo (He et al. 2020)."""

    recipe: Literal["selected", "fixed"] = "selected"
    """Recipe of the training. `selected` trains on cached features and chooses the learning rate on held-out training
    images. `fixed` is the recipe of *Synthesized Pairs*: one learning rate, and random crops and flips drawn anew every
    epoch, which costs an encoder pass per epoch."""
    label_fractions: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        1.0,
        0.5,
        0.2,
    )
    """Shares of the training labels that are used, stratified by class; each gets a column."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Candidate learning rates of `selected`, up to MoCo's 30; `fixed` takes exactly one."""
    validation_fraction: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2
    """Share of the labeled images that is held out to choose the learning rate. Groups (tracks) are never divided."""
    epochs: PositiveInt = 100
    """Passes over the labeled images; MoCo trains for 100."""
    batch_size: PositiveInt = 128
    """Images per step."""
    momentum: FractionBelowOne = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty of SGD; MoCo has none."""
    milestones: tuple[Annotated[FiniteFloat, Field(gt=0, lt=1)], ...] = (0.6, 0.8)
    """Shares of training after which the learning rate is multiplied by 0.1; MoCo steps at epochs 60 and 80 of 100."""

    def __post_init__(self) -> None:
        if self.recipe == "fixed" and len(self.learning_rates) > 1:
            raise ValueError(
                f"recipe fixed takes exactly one rate, but learning_rates holds {len(self.learning_rates)}: give one, "
                "such as learning_rates: [30.0] of MoCo"
            )

    @classmethod
    def default(cls) -> Self:
        """Return the probe with its default settings, which is taken unless the key is null."""
        return cls()

    @property
    def percents(self) -> list[str]:
        """Label fractions in percent, as the names of columns end: `20` for 0.2."""
        return [f"{100 * fraction:g}" for fraction in self.label_fractions]

    def columns(self) -> list[Column]:
        """Return the columns `linear_<percent>`, one per label fraction, in percent."""
        return [Column(name=f"linear_{percent}", unit="percent") for percent in dict.fromkeys(self.percents)]

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` if no image can be held out to choose a learning rate."""
        from fgssl.evaluation.linear import label_subsets, validation_splits

        labels, seed = splits.train_labels, splits.seed
        if len(set(self.learning_rates)) > 1:
            subsets = label_subsets(labels, self.label_fractions, seed)
            validation_splits(labels, splits.train.groups, subsets, self.validation_fraction, seed)

    def value(self, features: "Features") -> dict[str, float]:
        """Return the accuracy at each label fraction, and its learning rate as `learning_rate_<percent>`."""
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
