"""Measure `linear`: accuracy of a linear classifier on frozen features, at several shares of the labels."""

import math
from collections.abc import Mapping
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
from fgssl.settings.measure import Column, Measure, balanced_column, balanced_remarks, single_class

if TYPE_CHECKING:
    from fgssl.evaluation.features import Features, Splits
    from fgssl.store.manifest import Manifest


@settings
class LinearProbe(Measure):
    """Linear classifier on frozen features, by the protocol of MoCo (He et al. 2020)."""

    recipe: Literal["scaled", "selected", "fixed"] = "scaled"
    """Recipe of the training. `scaled` trains on cached features and chooses the learning rate on held-out training
    images. All features are centered, and divided by the root mean square distance of the training features to their
    mean, so that a learning rate has the same effect on every encoder: two encoders equal up to a factor get the same
    accuracy. `selected` differs in leaving the features as they are, so that the result depends on their scale. `fixed`
    is the recipe of *Synthesized Pairs*, which follows MoCo: features as they are, one learning rate, and random crops
    and flips drawn anew every epoch, which costs an encoder pass per epoch."""
    label_fractions: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        1.0,
        0.5,
        0.2,
    )
    """Shares of the training labels that are used, stratified by class; each gets a column. The number of labeled
    images of a class is rounded, and at least one. The real share, recorded as `label_percent_<percent>`, therefore
    differs if classes are small."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        0.3,
        1.0,
        3.0,
        10.0,
        30.0,
        100.0,
        300.0,
    )
    """Candidate learning rates of `scaled` and `selected`; `fixed` takes exactly one. The default suits scaled
    features. A remark is made if the smallest or the largest is chosen, since one beyond it may be better."""
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
        named: dict[str, float] = {}
        for fraction, percent in zip(self.label_fractions, self.percents, strict=True):
            if (other := named.setdefault(percent, fraction)) != fraction:
                raise ValueError(
                    f"label_fractions {other} and {fraction} would share the column linear_{percent}: keep one of "
                    "them, or give shares that differ in their first six digits"
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
        """Return the columns of each label fraction: accuracies, the learning rate and the real share of labels."""
        percents = dict.fromkeys(self.percents)
        return [
            *(Column(name=f"linear_{percent}", unit="percent") for percent in percents),
            *(balanced_column(f"linear_{percent}") for percent in percents),
            *(Column(name=f"learning_rate_{percent}", unit="number", shown=False) for percent in percents),
            *(
                Column(
                    name=f"label_percent_{percent}",
                    unit="percent",
                    note=f"share of the training labels that linear_{percent} uses",
                    shown=False,
                )
                for percent in percents
            ),
        ]

    def remarks(self, values: Mapping[str, float]) -> list[str]:
        """Return remarks on unbalanced accuracies, learning rates at an end of the candidates, and shares of labels.

        A share of labels is remarked on if it differs from `label_fractions` by more than a tenth.
        """
        found = []
        smallest, largest = min(self.learning_rates), max(self.learning_rates)
        for fraction, percent in dict(zip(self.label_fractions, self.percents, strict=True)).items():
            found += balanced_remarks(f"linear_{percent}", values)
            rate, share = values.get(f"learning_rate_{percent}"), values.get(f"label_percent_{percent}")
            if smallest < largest and rate in (smallest, largest):
                size, beyond = ("smallest", "smaller") if rate == smallest else ("largest", "larger")
                found.append(
                    f"linear_{percent}: the learning rate {rate:g} was chosen, the {size} of "
                    f"evaluation.linear.learning_rates: {beyond} ones may be better"
                )
            if share is not None and abs(share - 100 * fraction) > 10 * fraction:
                found.append(
                    f"linear_{percent}: {share:.2f} percent of the labels are used, since the number of images of each "
                    "class is rounded, and at least one"
                )
        return found

    def lacks(self, manifest: "Manifest", label_level: int) -> list[str]:
        """Return a message if the training images are of one class, or none can be held out to choose a rate."""
        if faults := single_class(manifest, "train", "evaluation.linear", label_level):
            return faults
        largest = max(manifest.class_counts["train"][label_level])
        few = [fraction for fraction in self.label_fractions if math.floor(fraction * largest + 0.5) < 2]
        if not few or len(set(self.learning_rates)) == 1:
            return []
        enough = f"take {math.ceil(150 / largest) / 100:g} or more" if largest > 1 else "pack more images"
        return [
            f"evaluation.linear.label_fractions: at {', '.join(map(str, few))} every class of {manifest.title} keeps "
            f"one labeled image of {largest} at most, so none can be held out to choose a learning rate: {enough}, or "
            "give one rate in evaluation.linear.learning_rates"
        ]

    def check(self, splits: "Splits") -> None:
        """Raise a `DataError` if no image can be held out to choose a learning rate."""
        from fgssl.evaluation.linear import label_subsets, validation_splits

        labels, seed = splits.train_labels, splits.seed
        if len(set(self.learning_rates)) > 1:
            subsets = label_subsets(labels, self.label_fractions, seed)
            validation_splits(labels, splits.train.groups, subsets, self.validation_fraction, seed)

    def value(self, features: "Features") -> dict[str, float]:
        """Return the value of each column."""
        import torch

        from fgssl.evaluation import linear
        from fgssl.evaluation.accuracy import accuracies
        from fgssl.evaluation.features import require_finite
        from fgssl.evaluation.scaling import Scaling

        labels, seed = features.train_labels, features.seed
        sgd = linear.SGD(self.epochs, self.batch_size, self.momentum, self.weight_decay, self.milestones)
        subsets = linear.label_subsets(labels, self.label_fractions, seed)
        rates, scaling = [self.learning_rates[0]] * len(subsets), None
        if self.recipe == "scaled":
            require_finite(features.of_train, "linear probe", "training")
            scaling = Scaling.of(features.of_train)
        if len(set(self.learning_rates)) > 1:
            splits = linear.validation_splits(labels, features.train.groups, subsets, self.validation_fraction, seed)
            rates = linear.best_learning_rates(
                features.of_train, labels, splits, self.learning_rates, sgd, seed, features.track, scaling
            )
        train = features.of_random_train_views if self.recipe == "fixed" else lambda epoch: features.of_train
        trained = linear.fit(train, labels, subsets, [(rate,) for rate in rates], sgd, seed, features.track, scaling)
        predicted = linear.predictions(trained, features.of_test)
        truth = torch.tensor(features.test_labels, device=features.device)
        scores = [accuracies(each == truth, truth) for each in predicted]
        for percent, each in zip(self.percents, predicted, strict=True):
            features.outcomes.classified(f"linear_{percent}", each.cpu().numpy(), features.test_labels)
        found = {
            "linear_{}": [accuracy for accuracy, _ in scores],
            "linear_{}_balanced": [balanced for _, balanced in scores],
            "learning_rate_{}": rates,
            "label_percent_{}": [100 * len(rows) / len(labels) for rows in subsets],
        }
        return {
            name.format(percent): value
            for name, values in found.items()
            for percent, value in zip(self.percents, values, strict=True)
        }
