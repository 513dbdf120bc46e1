"""Linear probe: its mathematics, its choice of a learning rate, and the data that it must not use."""

import dataclasses
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torchmetrics.classification import MulticlassAccuracy

from fgssl.errors import DataError, NonFiniteError
from fgssl.evaluation import linear
from fgssl.evaluation.accuracy import accuracies
from fgssl.evaluation.linear import SGD, LinearClassifiers, best_learning_rates, fit, label_subsets, validation_splits
from fgssl.evaluation.measures.linear import LinearProbe
from fgssl.progress import silent
from fgssl.randomness import permutation
from fgssl.store.outcomes import Outcomes

SETTINGS = LinearProbe(epochs=15, batch_size=32, learning_rates=(0.1, 1.0, 10.0))
TRAINING = SGD(15, 32, SETTINGS.momentum, SETTINGS.weight_decay, SETTINGS.milestones)


def mixture(
    images: int, width: int, classes: int, spread: float, seed: int = 0
) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, np.ndarray]:
    """Return train and test features around one center per class, with labels."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, width, generator=random)
    labels = np.arange(images) % classes
    train, test = (centers[labels] + spread * torch.randn(images, width, generator=random) for _ in range(2))
    return train, labels, test, labels.copy()


def probe(
    data: tuple[torch.Tensor, np.ndarray, torch.Tensor, np.ndarray],
    views: Callable[[int], torch.Tensor] | None = None,
    **kwargs: object,
) -> dict[str, float]:
    train, train_labels, test, test_labels = data
    features = SimpleNamespace(
        train=SimpleNamespace(groups=np.arange(len(train))),
        track=silent,
        train_labels=train_labels,
        test_labels=test_labels,
        of_train=train,
        of_test=test,
        of_random_train_views=views,
        seed=0,
        device=train.device,
        outcomes=Outcomes(),
    )
    return dataclasses.replace(SETTINGS, **kwargs).value(features)  # type: ignore[arg-type]


def test_separable_classes_reach_100_percent() -> None:
    measures = probe(mixture(images=200, width=16, classes=5, spread=0.05))
    assert [measures[name] for name in ("linear_100", "linear_50", "linear_20")] == [100.0] * 3


def test_measures_follow_the_label_fractions() -> None:
    measures = probe(mixture(images=100, width=8, classes=4, spread=0.5), label_fractions=(1.0, 0.125))
    names = ["linear_{}", "linear_{}_balanced", "learning_rate_{}", "label_percent_{}"]
    assert list(measures) == [name.format(percent) for name in names for percent in ("100", "12.5")]
    assert measures["linear_12.5"] <= measures["linear_100"]


def test_noise_alone_gives_chance() -> None:
    random = torch.Generator().manual_seed(0)
    labels = np.arange(2000) % 4
    data = (torch.randn(2000, 4, generator=random), labels, torch.randn(2000, 4, generator=random), labels)
    assert abs(probe(data, learning_rates=(0.1,))["linear_100"] - 25) < 5


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_equal_torch_sgd_and_autograd(weight_decay: float) -> None:
    features, labels, *_ = mixture(images=50, width=6, classes=3, spread=1.0)
    features = features.double()
    sgd = SGD(10, 32, 0.9, weight_decay, (0.4, 0.8))
    (trained,) = fit(lambda epoch: features, labels, [np.arange(50)], [(0.5,)], sgd, seed=7)

    layer = torch.nn.Linear(6, 3, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4, 8], gamma=0.1)
    targets = torch.from_numpy(labels)
    for epoch in range(10):
        for batch in torch.from_numpy(permutation(7, "linear probe", epoch, length=50)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(features[batch]), targets[batch]).backward()
            optimizer.step()
        schedule.step()
    torch.testing.assert_close(trained.weight[0].T, layer.weight.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(trained.logits(features)[:, 0], layer(features).detach(), rtol=1e-10, atol=1e-12)


def test_rates_in_one_pass_equal_single_fits() -> None:
    train, labels, test, _ = mixture(images=300, width=12, classes=6, spread=1.0)
    train, test = train.double(), test.double()  # wide matrices are summed in another order: rounding alone differs
    rows, rates = np.arange(300), (0.1, 1.0, 10.0)
    (together,) = fit(lambda epoch: train, labels, [rows], [rates], TRAINING, seed=0)
    for index, rate in enumerate(rates):
        (alone,) = fit(lambda epoch: train, labels, [rows], [(rate,)], TRAINING, seed=0)
        torch.testing.assert_close(together.weight[index], alone.weight[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(together.logits(test)[:, index], alone.logits(test)[:, 0], rtol=1e-6, atol=1e-6)


def test_is_deterministic_and_a_function_of_the_seed() -> None:
    data = mixture(images=200, width=8, classes=10, spread=1.5)
    assert probe(data) == probe(data)
    train, labels, *_ = data
    one, other = (
        fit(lambda epoch: train, labels, [np.arange(200)], [(1.0,)], TRAINING, seed=seed)[0].weight for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_test_labels_change_no_weight_and_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels, test, test_labels = mixture(images=240, width=8, classes=12, spread=1.2)
    weights: list[list[torch.Tensor]] = []

    def recorded(*arguments: object) -> list[LinearClassifiers]:
        trained = fit(*arguments)  # type: ignore[arg-type]
        weights.append([classifiers.weight.clone() for classifiers in trained])
        return trained

    monkeypatch.setattr(linear, "fit", recorded)
    first = probe((train, labels, test, test_labels))
    second = probe((train, labels, test, np.random.default_rng(0).permutation(test_labels)))
    third = probe((train, labels, test.flip(0), np.zeros(240, dtype=np.int64)))
    assert len(weights) == 12  # the choice at each label fraction and the refit, three times
    for run in (weights[4:8], weights[8:12]):
        for before, after in zip(weights[:4], run, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    rates = [name for name in first if name.startswith("learning_rate")]
    assert [first[name] for name in rates] == [second[name] for name in rates] == [third[name] for name in rates]
    assert first["linear_100"] != second["linear_100"]


def test_the_rate_is_the_best_on_the_held_out_part() -> None:
    train, labels, *_ = mixture(images=300, width=16, classes=10, spread=2.0)
    groups = np.arange(300) // 20 + 1000 * labels  # tracks of one class each
    rates = (30.0, 0.0001, 0.1)
    splits = validation_splits(labels, groups, label_subsets(labels, [0.5], seed=3), 0.2, seed=3)
    (chosen,) = best_learning_rates(train, labels, splits, rates, TRAINING, seed=3)

    ((fitted, validated),) = splits
    assert not set(groups[fitted]) & set(groups[validated])
    accuracy: dict[float, float] = {}
    for rate in sorted(rates):
        (alone,) = fit(lambda epoch: train, labels, [fitted], [(rate,)], TRAINING, seed=3)
        (found,) = alone.predict(train, torch.from_numpy(validated))
        assert found is not None
        accuracy[rate] = float((found.numpy() == labels[validated]).mean())
    assert len(set(accuracy.values())) == 3
    assert chosen == max(accuracy, key=lambda rate: accuracy[rate])


def test_the_smallest_of_equal_rates_is_chosen() -> None:
    measures = probe(mixture(images=200, width=16, classes=5, spread=0.01), learning_rates=(3.0, 0.3, 1.0))
    assert measures["learning_rate_100"] == 0.3


def test_a_diverging_rate_loses() -> None:
    data = mixture(images=200, width=16, classes=5, spread=0.05)
    measures = probe(data, learning_rates=(1e38, 1.0))
    assert measures["learning_rate_100"] == 1.0
    assert measures["linear_100"] == 100.0


def test_all_rates_diverging_is_an_error() -> None:
    data = mixture(images=200, width=16, classes=5, spread=3.0)
    with pytest.raises(NonFiniteError, match=r"learning rate 1e\+38, 3e\+38.*smaller evaluation.linear.learning_rates"):
        probe(data, learning_rates=(1e38, 3e38))
    with pytest.raises(NonFiniteError, match=r"learning rate 1e\+38"):
        probe(data, learning_rates=(1e38,))


def test_features_that_are_not_finite_are_named() -> None:
    train, labels, test, test_labels = mixture(images=60, width=4, classes=3, spread=0.1)
    broken = train.clone()
    broken[3, 1] = torch.inf
    with pytest.raises(NonFiniteError, match="training images"):
        probe((broken, labels, test, test_labels))
    with pytest.raises(NonFiniteError, match="test images"):
        probe((train, labels, broken, test_labels))


def test_nothing_to_hold_out_is_an_error_unless_there_is_nothing_to_choose() -> None:
    data = mixture(images=20, width=4, classes=4, spread=0.1)
    with pytest.raises(DataError, match="held out to choose a learning rate"):
        probe(data, label_fractions=(0.2,))
    assert probe(data, label_fractions=(0.2,), learning_rates=(1.0,))["learning_rate_20"] == 1.0


def test_fixed_recipe_asks_for_features_once_an_epoch_and_takes_its_rate() -> None:
    data = train, *_ = mixture(images=200, width=16, classes=5, spread=0.1)
    asked = []

    def features(epoch: int) -> torch.Tensor:
        asked.append(epoch)
        return train + 0.1 * torch.randn(train.shape, generator=torch.Generator().manual_seed(epoch))

    measures = probe(data, features, recipe="fixed", learning_rates=(3.0,))
    assert asked == list(range(15))
    assert measures["learning_rate_20"] == 3.0
    assert measures["linear_100"] == measures["linear_20"] == 100.0


def test_fixed_recipe_on_constant_features_is_the_selected_one_with_one_rate() -> None:
    data = train, *_ = mixture(images=200, width=16, classes=10, spread=1.5)
    fixed = probe(data, lambda epoch: train, recipe="fixed", learning_rates=(1.0,))
    assert fixed == probe(data, recipe="selected", learning_rates=(1.0,))


def test_a_test_class_without_training_images_counts_as_wrong() -> None:
    train, labels, test, test_labels = mixture(images=100, width=16, classes=4, spread=0.01)
    unseen = np.where(test_labels == 3, 9, test_labels)
    measures = probe((train, labels, test, unseen))
    assert measures["linear_100"] == 75.0
    assert measures["linear_100_balanced"] == 75.0


@pytest.mark.parametrize("exponent", [-60, -13, 5, 60])
def test_features_times_a_power_of_two_have_equal_accuracy_to_the_bit(exponent: int) -> None:
    train, labels, test, truth = mixture(images=200, width=16, classes=10, spread=1.5)
    factor = 2.0**exponent
    assert probe((train * factor, labels, test * factor, truth)) == probe((train, labels, test, truth))


@pytest.mark.parametrize(("factor", "shift"), [(1e-4, 0.0), (7e3, 0.0), (1e-4, 0.01)])
def test_features_times_any_factor_have_equal_accuracy_to_rounding(factor: float, shift: float) -> None:
    data = train, labels, test, truth = mixture(images=400, width=16, classes=10, spread=1.5)
    expected = probe(data)
    found = probe((train * factor + shift, labels, test * factor + shift, truth))
    assert found == pytest.approx(expected, abs=0.5)  # two of 400 test images
    assert 50 < expected["linear_100"] < 99
    if factor < 1:
        assert probe((train * factor, labels, test * factor, truth), recipe="selected")["linear_100"] < 45


def test_test_features_do_not_change_the_scaling() -> None:
    train, labels, test, truth = mixture(images=200, width=16, classes=10, spread=0.5)
    alone = probe((train, labels, test[:20], truth[:20]))
    far = torch.cat([test[:20], 1e6 * test[20:]])
    rates = [name for name in alone if name.startswith("learning_rate")]
    assert [probe((train, labels, far, truth))[name] for name in rates] == [alone[name] for name in rates]


def test_equal_features_are_measured() -> None:
    """A collapsed encoder has no distances to divide by."""
    labels = np.arange(60) % 3
    assert probe((torch.ones(60, 4), labels, torch.ones(60, 4), labels))["linear_100"] == pytest.approx(100 / 3)


def test_the_real_share_of_labels_is_recorded() -> None:
    labels = np.arange(100) % 20  # five images per class, of which one is 20 percent
    train = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    measures = probe((train, labels, train, labels), label_fractions=(1.0, 0.4, 0.01), learning_rates=(1.0,))
    assert [measures[f"label_percent_{percent}"] for percent in ("100", "40", "1")] == [100.0, 40.0, 20.0]


def test_balanced_accuracy_equals_scikit_learn_and_torchmetrics() -> None:
    random = np.random.default_rng(0)
    labels = random.choice([2, 3, 5, 9], size=400, p=[0.7, 0.2, 0.07, 0.03])
    predicted = np.where(random.random(400) < 0.6, labels, random.choice([2, 3, 5, 9], size=400))
    accuracy, balanced = accuracies(torch.from_numpy(predicted == labels), torch.from_numpy(labels))
    assert accuracy == pytest.approx(100 * accuracy_score(labels, predicted))
    assert balanced == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    classes, places = np.unique(labels, return_inverse=True)
    _, guesses = np.unique(np.concatenate([classes, predicted]), return_inverse=True)
    oracle = MulticlassAccuracy(num_classes=4, average="macro")(torch.from_numpy(guesses[4:]), torch.from_numpy(places))
    assert balanced == pytest.approx(100 * float(oracle), rel=1e-5)
    assert abs(accuracy - balanced) > 1


def test_rows_of_rare_classes_count_alike() -> None:
    train, labels, test, truth = mixture(images=300, width=16, classes=3, spread=0.05)
    wrong = np.where(np.arange(300) < 240, truth, (truth + 1) % 3)
    kept = (truth == 0) | (np.arange(300) < 30) | (np.arange(300) >= 285)  # many of class 0, few of the others
    measures = probe((train, labels, test[kept], wrong[kept]))
    found = 100 * balanced_accuracy_score(wrong[kept], truth[kept])
    assert measures["linear_100_balanced"] == pytest.approx(found)
    assert measures["linear_100"] == pytest.approx(100 * accuracy_score(wrong[kept], truth[kept]))
    assert abs(measures["linear_100"] - found) > 1


@pytest.mark.parametrize("logits_at_once", [1, 1000])
def test_chunks_change_no_accuracy(logits_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixture(images=200, width=16, classes=10, spread=1.5)
    expected = probe(data)
    monkeypatch.setattr(linear, "LOGITS_AT_ONCE", logits_at_once)
    assert probe(data) == pytest.approx(expected, abs=0.5)


def test_small_data_take_seconds_on_one_thread() -> None:
    data = mixture(images=960, width=128, classes=24, spread=1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        probe(data, **vars(LinearProbe()))
        assert time.process_time() - start < 6  # about 1 s; a loop over images or rates takes many times that
    finally:
        torch.set_num_threads(threads)
