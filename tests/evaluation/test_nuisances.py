"""Nuisance probe: its regression against scikit-learn, and the data that it can and must not use."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as Oracle
from sklearn.metrics import r2_score

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation import nuisances as module
from fgssl.evaluation.nuisances import (
    MOST_CATEGORIES,
    PENALTIES,
    Attributes,
    Ridge,
    check_attributes,
    nuisance_probe,
    validation_split,
)
from fgssl.evaluation.splits import grouped_split

IMAGES = 400
WIDTH = 24


def features_and_attributes(seed: int = 0) -> tuple[torch.Tensor, Attributes, torch.Tensor, Attributes]:
    """Return train and test features that predict `light` well, `pose` partly, and the category `kind` hardly."""
    random = np.random.default_rng(seed)
    mix, scale = random.normal(size=(WIDTH, WIDTH)), 10.0 ** random.uniform(-2, 2, WIDTH)
    splits: list[tuple[torch.Tensor, Attributes]] = []
    for _ in range(2):
        causes = random.normal(size=(IMAGES, WIDTH))
        attributes = {
            "light": 5 + 0.1 * causes[:, 0] + 0.02 * random.normal(size=IMAGES),
            "pose": 30 * causes[:, 1] + 30 * random.normal(size=IMAGES),
            "kind": np.digitize(causes[:, 2], [-0.5, 0.5]).astype(np.float64) * 2 - 1,
        }
        splits.append((torch.tensor(7 + causes @ mix * scale, dtype=torch.float32), attributes))
    (train, train_attributes), (test, test_attributes) = splits
    return train, train_attributes, test, test_attributes


def probe(
    train: torch.Tensor, train_attributes: Attributes, test: torch.Tensor, test_attributes: Attributes, *names: str
) -> dict[str, float]:
    """Return the result in percent for each attribute."""
    groups = np.arange(len(train))
    asked = {name: (name,) for name in names or train_attributes}
    measures = nuisance_probe(train, train_attributes, groups, test, test_attributes, asked, seed=0)
    return {name.removeprefix("nuisance_"): value for name, value in measures.items()}


def standardized(train: torch.Tensor, other: torch.Tensor) -> NDArray[np.float64]:
    known = train.double().numpy()
    return (other.double().numpy() - known.mean(axis=0)) / known.std(axis=0)


def penalty_of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_hot(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([values == value for value in (-1, 1, 3)], axis=1).astype(np.float64)


# -------------------------------------------------------------------------------------- the regression


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1.0, 300.0])
def test_ridge_equals_scikit_learn(penalty: float) -> None:
    train, attributes, test, _ = features_and_attributes()
    targets = np.stack([attributes["light"], attributes["pose"]], axis=1)
    oracle = Oracle(alpha=penalty * IMAGES, solver="svd").fit(standardized(train, train), targets)
    fitted = Ridge(train.double(), torch.from_numpy(targets))
    np.testing.assert_allclose(
        fitted.predict(test.double(), penalty_of(penalty)).numpy(),
        oracle.predict(standardized(train, test)),
        rtol=1e-9,
        atol=1e-9,
    )


def test_one_penalty_for_each_target() -> None:
    train, attributes, test, _ = features_and_attributes()
    targets = torch.from_numpy(np.stack([attributes["light"], attributes["pose"]], axis=1))
    fitted = Ridge(train.double(), targets)
    both = fitted.predict(test.double(), penalty_of(0.1, 10.0))
    for column, penalty in enumerate((0.1, 10.0)):
        torch.testing.assert_close(both[:, column], fitted.predict(test.double(), penalty_of(penalty))[:, column])


def test_more_features_than_images() -> None:
    random = np.random.default_rng(0)
    train, test, targets = random.normal(size=(20, 50)), random.normal(size=(10, 50)), random.normal(size=(20, 1))
    scaled = (train - train.mean(axis=0)) / train.std(axis=0)
    oracle = Oracle(alpha=20 * 1e-3, solver="svd").fit(scaled, targets)
    predicted = Ridge(torch.from_numpy(train), torch.from_numpy(targets)).predict(
        torch.from_numpy(test), penalty_of(1e-3)
    )
    expected = oracle.predict((test - train.mean(axis=0)) / train.std(axis=0)).reshape(10, 1)
    np.testing.assert_allclose(predicted.numpy(), expected, rtol=1e-8, atol=1e-8)


def test_a_feature_without_variance_in_training_is_left_out() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    dead_train, dead_test = torch.full((IMAGES, 2), 0.1), torch.randn(IMAGES, 2)  # the mean of 400 times 0.1 is not 0.1
    with_dead = probe(
        torch.cat([dead_train, train], dim=1), attributes, torch.cat([dead_test, test], dim=1), test_attributes
    )
    assert with_dead == pytest.approx(probe(train, attributes, test, test_attributes), abs=1e-9)


# --------------------------------------------------------------------------------------- the measure


def test_equals_scikit_learn_at_the_penalty_that_does_best_on_the_held_out_part() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    few = 50  # for 24 features: a penalty helps
    train, attributes = train[:few], {name: values[:few] for name, values in attributes.items()}
    measures = probe(train, attributes, test, test_attributes)
    assert list(measures) == ["light", "pose", "kind"]
    fitted, held_out = grouped_split(np.zeros(few, dtype=np.int64), np.arange(few), 0.2, seed=0)
    chosen = {}
    for name, percent in measures.items():
        targets, truth = attributes[name][:, None], test_attributes[name][:, None]
        if name == "kind":
            targets, truth = one_hot(targets[:, 0]), one_hot(truth[:, 0])
        scores = {}
        for penalty in PENALTIES:
            part = Oracle(alpha=penalty * len(fitted), solver="svd").fit(
                standardized(train[fitted], train[fitted]), targets[fitted]
            )
            predicted = part.predict(standardized(train[fitted], train[held_out])).reshape(len(held_out), -1)
            scores[penalty] = -((predicted - targets[held_out]) ** 2).sum()
        chosen[name] = max(scores, key=lambda penalty: scores[penalty])
        whole = Oracle(alpha=chosen[name] * few, solver="svd").fit(standardized(train, train), targets)
        predicted = whole.predict(standardized(train, test)).reshape(IMAGES, -1)
        expected = 100 * r2_score(truth, predicted, multioutput="variance_weighted")
        assert percent == pytest.approx(expected, abs=1e-8), name
    assert chosen["light"] < chosen["pose"]


def test_what_is_there_is_read() -> None:
    measures = probe(*features_and_attributes())
    assert measures["light"] == pytest.approx(100 / 1.04, abs=3)  # the shares of variance that are no noise
    assert measures["pose"] == pytest.approx(50, abs=8)
    assert 20 < measures["kind"] < 60


def test_a_name_is_the_mean_over_its_attributes() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    alone = probe(train, attributes, test, test_attributes)
    asked = {"all": ("light", "pose", "kind"), "some": ("kind", "light")}
    measures = nuisance_probe(train, attributes, np.arange(IMAGES), test, test_attributes, asked, seed=0)
    assert measures == pytest.approx(
        {"nuisance_all": sum(alone.values()) / 3, "nuisance_some": (alone["kind"] + alone["light"]) / 2}, abs=1e-9
    )


def test_features_that_hold_the_attributes_give_100() -> None:
    _, attributes, _, test_attributes = features_and_attributes()
    shown = [
        torch.from_numpy(np.concatenate([np.stack([split["light"], split["pose"]], axis=1), one_hot(split["kind"])], 1))
        for split in (attributes, test_attributes)
    ]
    noise = [torch.randn(IMAGES, 5, dtype=torch.float64) for _ in shown]
    hold_train, hold_test = (torch.cat(pair, dim=1) for pair in zip(shown, noise, strict=True))
    measures = probe(hold_train, attributes, hold_test, test_attributes)
    assert min(measures.values()) > 99.999
    assert max(measures.values()) <= 100


@pytest.mark.parametrize("seed", range(3))
def test_random_features_give_nothing(seed: int) -> None:
    _, attributes, _, test_attributes = features_and_attributes(seed)
    random = torch.Generator().manual_seed(seed)
    for width in (8, 300):
        train, test = (torch.randn(IMAGES, width, generator=random) for _ in range(2))
        measures = probe(train, attributes, test, test_attributes)
        assert max(measures.values()) < 3
        assert min(measures.values()) > -15


def test_worse_than_the_mean_is_negative() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(2, IMAGES))
    train, test = (torch.tensor(sign * values[:, None]) for sign, values in zip((1, -1), truth, strict=True))
    measures = probe(train, {"light": truth[0]}, test, {"light": truth[1]})
    assert measures["light"] == pytest.approx(-300, abs=2)  # the residual is twice the truth


def test_scale_and_shift_of_features_and_of_a_number_change_nothing() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    scale, shift = torch.logspace(-3, 3, WIDTH, dtype=torch.float64), torch.linspace(-9, 9, WIDTH, dtype=torch.float64)
    moved = {name: 1e4 * values - 7 for name, values in attributes.items() if name != "kind"}
    test_moved = {name: 1e4 * values - 7 for name, values in test_attributes.items() if name != "kind"}
    before = probe(train.double(), attributes, test.double(), test_attributes, "light", "pose")
    after = probe(train.double() * scale + shift, moved, test.double() * scale + shift, test_moved)
    assert after == pytest.approx(before, abs=1e-7)


def test_a_rotation_changes_least_squares_not_at_all_and_the_penalised_fit_a_little() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    train, test = (features.double() for features in (train, test))
    train, test = (features / train.std(dim=0) for features in (train, test))  # axes of like scale, correlated
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64)).Q
    targets = torch.from_numpy(attributes["pose"][:, None])

    def predicted(penalty: float, turned: bool) -> torch.Tensor:
        sides = (train @ rotation, test @ rotation) if turned else (train, test)
        return Ridge(sides[0], targets).predict(sides[1], penalty_of(penalty))

    torch.testing.assert_close(predicted(0.0, turned=True), predicted(0.0, turned=False), rtol=1e-8, atol=1e-8)
    assert not torch.allclose(predicted(0.1, turned=True), predicted(0.1, turned=False), rtol=1e-3)
    turned = probe(train @ rotation, attributes, test @ rotation, test_attributes)
    assert turned == pytest.approx(probe(train, attributes, test, test_attributes), abs=2)


# ---------------------------------------------------------------------------------------- categories


def test_few_integers_are_a_category() -> None:
    random = np.random.default_rng(1)
    kind = [random.integers(0, 4, 10 * IMAGES).astype(np.float64) for _ in range(2)]
    # A linear model of the number 0 ... 3 reads nothing from features that only tell 1 from the rest.
    train, test = (
        torch.tensor((values == 1)[:, None] + 0.01 * random.normal(size=(10 * IMAGES, 1))) for values in kind
    )
    category = probe(train, {"kind": kind[0]}, test, {"kind": kind[1]})["kind"]
    number = probe(train, {"kind": kind[0] + 0.5}, test, {"kind": kind[1] + 0.5})["kind"]
    # Column 1 is read wholly. Given that it is not 1, each of the others keeps 2/9 * 3/4 of its variance of 3/16.
    assert category == pytest.approx(100 * (1 - 3 * (2 / 9 * 3 / 4) / (4 * 3 / 16)), abs=1)
    assert number == pytest.approx(100 * (1 / 12) / (5 / 4), abs=2)


def test_what_counts_as_a_category() -> None:
    like = torch.zeros(1, dtype=torch.float64)

    def columns(attribute: NDArray[np.float64], other_split: NDArray[np.float64]) -> int:
        return module._targets(attribute, np.unique(np.concatenate([attribute, other_split])), like).shape[1]

    most = np.arange(MOST_CATEGORIES, dtype=np.float64)
    assert columns(most, most[:2]) == MOST_CATEGORIES
    assert columns(most[:2], most) == MOST_CATEGORIES  # a value that only the other split has is a column too
    assert columns(most, most + 1) == 1
    assert columns(most / 2, most[:1]) == 1
    assert columns(np.array([-3.0, 40.0]), np.array([-3.0])) == 2


def test_a_category_that_only_test_images_have_is_read_by_nobody() -> None:
    kind, test_kind = np.array([0.0, 1.0] * 50), np.array([0.0, 1.0, 2.0, 2.0] * 25)
    train, test = (torch.tensor(values[:, None]) for values in (kind, test_kind))
    measures = probe(train, {"kind": kind}, test, {"kind": test_kind})
    # The columns of 0 and 1 read 1 - x and x, which is -1 and 2 at x = 2; that of 2 reads 0: errors of 1, 4 and 1 for
    # half of the images. The variances of the columns are 3/16, 3/16 and 1/4.
    assert measures["kind"] == pytest.approx(100 * (1 - 3 / (5 / 8)), abs=1)


# ------------------------------------------------------------------------------ what it may look at


def test_no_group_stands_on_both_sides_and_classes_do_not_matter() -> None:
    groups = np.arange(IMAGES) // 7
    fitted, held_out = validation_split(groups, seed=3)
    assert not set(groups[fitted]) & set(groups[held_out])
    assert len(held_out) == pytest.approx(0.2 * IMAGES, abs=7)
    assert np.array_equal(np.sort(np.concatenate([fitted, held_out])), np.arange(IMAGES))


def test_test_images_choose_no_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    used: list[torch.Tensor] = []
    predict = Ridge.predict

    def recorded(self: Ridge, features: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        used.append(penalty)
        return predict(self, features, penalty)

    monkeypatch.setattr(Ridge, "predict", recorded)
    first = probe(train, attributes, test, test_attributes)
    shuffled = {name: np.random.default_rng(0).permutation(values) for name, values in test_attributes.items()}
    second = probe(train, attributes, test.flip(0), shuffled)
    assert len(used) == 2 * (len(PENALTIES) + 1)
    assert torch.equal(used[len(PENALTIES)], used[-1])
    assert first != second


# -------------------------------------------------------------------------------------------- errors


def test_all_faults_of_the_attributes_are_named_at_once() -> None:
    _, attributes, _, test_attributes = features_and_attributes()
    train = {**attributes, "still": np.ones(IMAGES), "broken": attributes["light"].copy()}
    test = {**test_attributes, "still": test_attributes["light"], "broken": test_attributes["light"]}
    train["broken"][3] = np.nan
    asked = {"light": ("light",), "place": ("still", "broken")}
    with pytest.raises(DataError) as caught:
        check_attributes(asked, train, test)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "evaluation.nuisances.place: attribute still: all 400 training images have the value 1" in lines[0]
    assert "attribute broken: values of the training images are NaN or infinite" in lines[1]
    with pytest.raises(DataError, match="all 400 test images have the value 1"):
        check_attributes({"a": ("still",)}, test, train)


def test_other_errors() -> None:
    train, attributes, test, test_attributes = features_and_attributes()
    asked = {"light": ("light",)}
    with pytest.raises(DataError, match="all of one group"):
        nuisance_probe(train, attributes, np.zeros(IMAGES, dtype=np.int64), test, test_attributes, asked, seed=0)
    broken = train.clone()
    broken[1, 1] = torch.inf
    with pytest.raises(NonFiniteError, match="nuisance probe: the features of the training images"):
        probe(broken, attributes, test, test_attributes)
    with pytest.raises(NonFiniteError, match="nuisance probe: the features of the test images"):
        probe(train, attributes, broken, test_attributes)
