"""Measures of made-up features compared with their peers, in CPU-seconds of one core.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation [--rounds 3] [--epochs 100] [--only "kNN;outliers"]

A measure and its peer take turns in one process. The table holds the smallest time of each, since other work on the
machine only adds to it, and their ratio. The sizes are those of CUB-200-2011 (5,994 + 5,794 images) with a ResNet-50.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fgssl.collapse import effective_rank
from fgssl.evaluation import linear
from fgssl.evaluation.centroids import outliers
from fgssl.evaluation.knn import weighted_knn
from fgssl.evaluation.ranking import retrieval
from fgssl.evaluation.scaling import Scaling

Labels = NDArray[np.int64]
Data = tuple[Tensor, Labels, Tensor, Labels]
"""Train features, train labels, test features and test labels."""
FRACTIONS, RATES = (1.0, 0.5, 0.2), (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
TEMPERATURE, NEIGHBORS = 0.07, 20
CUB = 5994, 5794, 2048, 200
"""Training images, test images, width and classes."""


@dataclass(frozen=True)
class Comparison:
    """Measure, and the work that it is compared with."""

    title: str
    """Name of that work."""
    measure: Callable[[], object]
    peer: Callable[[], object]


def mixture(train: int, test: int, width: int, classes: int, spread: float) -> Data:
    """Return float32 features around one center per class, positive as those of a ResNet."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(classes, width, generator=random)
    found: list[Tensor | Labels] = []
    for images in (train, test):
        labels = np.arange(images) % classes
        found += [(centers[labels] + spread * torch.randn(images, width, generator=random)).relu(), labels]
    return tuple(found)  # type: ignore[return-value]


def product(queries: Tensor, gallery: Tensor) -> Callable[[], object]:
    """Return a function that multiplies features (Q, D) and (N, D) in float64, 512 queries at a time."""
    rows, columns = queries.double(), gallery.double().T
    return lambda: [chunk @ columns for chunk in rows.split(512)]


def scikit_learn(data: Data, dtype: torch.dtype) -> Callable[[], object]:
    """Return a function that votes by scikit-learn's brute force in `dtype`."""
    train, labels, test, truth = data

    def score() -> object:
        found = KNeighborsClassifier(
            NEIGHBORS,
            metric="cosine",
            algorithm="brute",
            weights=lambda distances: np.exp((1 - distances) / TEMPERATURE),
        )
        return found.fit(train.to(dtype).numpy(), labels).score(test.to(dtype).numpy(), truth)

    return score


def plain_outliers(data: Data) -> int:
    """Return the number of outliers by float32 means and cosines, without regard to ties."""
    train, labels, test, truth = data
    sums = torch.zeros(int(labels.max()) + 1, train.shape[1])
    sums.index_add_(0, torch.from_numpy(labels), normalize(train, dim=1))
    return int(((normalize(test, dim=1) @ normalize(sums, dim=1).T).argmax(dim=1) != torch.from_numpy(truth)).sum())


def batched_probe(data: Data, sgd: linear.SGD) -> list[float]:
    """Return the accuracies of the probe as an evaluation computes it, rates chosen and refitted."""
    torch.set_flush_denormal(True)
    train, labels, test, truth = data
    scaling = Scaling.of(train)
    subsets = linear.label_subsets(labels, FRACTIONS, 0)
    splits = linear.validation_splits(labels, np.arange(len(labels)), subsets, 0.2, 0)
    rates = linear.best_learning_rates(train, labels, splits, RATES, sgd, 0, scaling=scaling)
    trained = linear.fit(lambda epoch: train, labels, subsets, [(rate,) for rate in rates], sgd, 0, scaling=scaling)
    torch.set_flush_denormal(False)
    return [float((each.numpy() == truth).mean()) for each in linear.predictions(trained, test)]


def separate_probes(data: Data, sgd: linear.SGD, flush: bool) -> list[float]:
    """Return the same accuracies by one `nn.Linear` and torch's SGD for each label fraction and rate."""
    torch.set_flush_denormal(flush)
    scaling = Scaling.of(data[0])
    train, labels, test, truth = scaling(data[0]), data[1], scaling(data[2]), data[3]
    subsets = linear.label_subsets(labels, FRACTIONS, 0)
    splits = linear.validation_splits(labels, np.arange(len(labels)), subsets, 0.2, 0)
    found = []
    for rows, (fitted, held_out) in zip(subsets, splits, strict=True):
        layers = {rate: separate_probe(train, labels, fitted, rate, sgd) for rate in RATES}
        best = max(RATES, key=lambda rate: accuracy(layers[rate], train[held_out], labels[held_out]))
        found.append(accuracy(separate_probe(train, labels, rows, best, sgd), test, truth))
    torch.set_flush_denormal(False)
    return found


def separate_probe(features: Tensor, labels: Labels, rows: Labels, rate: float, sgd: linear.SGD) -> nn.Linear:
    """Return one layer trained on some rows of features (N, D)."""
    layer, targets = nn.Linear(features.shape[1], int(labels.max()) + 1), torch.from_numpy(labels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), rate, sgd.momentum)
    lowered = [int(share * sgd.epochs) for share in sgd.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, lowered)
    for epoch in range(sgd.epochs):
        order = np.random.default_rng(epoch).permutation(rows)
        for batch in torch.from_numpy(order).split(sgd.batch_size):
            optimizer.zero_grad()
            cross_entropy(layer(features[batch]), targets[batch]).backward()
            optimizer.step()
        schedule.step()
    return layer


def accuracy(layer: nn.Linear, features: Tensor, truth: Labels) -> float:
    """Return the share of features (N, D) that the layer classifies correctly."""
    with torch.inference_mode():
        return float((layer(features).argmax(dim=1).numpy() == truth).mean())


def ranking(images: int, width: int) -> list[Comparison]:
    """Compare retrieval with its matrix product."""
    *_, features, labels = mixture(0, images, width, 200, 2.0)
    return [Comparison("float64 product", lambda: retrieval(features, labels), product(features, features))]


def neighbors() -> list[Comparison]:
    """Compare kNN with its matrix product, and with scikit-learn in both precisions."""
    data = mixture(*CUB, 2.0)

    def measure() -> object:
        return weighted_knn(*data, NEIGHBORS, TEMPERATURE)

    return [
        Comparison("float64 product", measure, product(data[2], data[0])),
        Comparison("scikit-learn, float64", measure, scikit_learn(data, torch.float64)),
        Comparison("scikit-learn, float32", measure, scikit_learn(data, torch.float32)),
    ]


def centroids() -> list[Comparison]:
    """Compare outliers with the same in float32, written as short as possible."""
    data = mixture(*CUB, 2.0)
    return [Comparison("plain float32", lambda: outliers(*data), lambda: plain_outliers(data))]


def rank() -> list[Comparison]:
    """Compare the effective rank with the eigenvalues of the covariance."""
    features = mixture(0, 5794, 2048, 200, 2.0)[2]

    def peer() -> object:
        return torch.linalg.eigvalsh(torch.cov(features.double().T))

    return [Comparison("eigvalsh of the covariance", lambda: effective_rank(features), peer)]


def probe(spread: float, epochs: int) -> list[Comparison]:
    """Compare the linear probe with separate runs, whose denormals are kept as torch does, or flushed."""
    data, sgd = mixture(2999, 2903, 512, 100, spread), linear.SGD(epochs, 128, 0.9, 0.0, (0.6, 0.8))
    return [
        Comparison(title, lambda: batched_probe(data, sgd), functools.partial(separate_probes, data, sgd, flush))
        for title, flush in (("separate runs", False), ("separate runs, flushed", True))
    ]


def comparisons(epochs: int) -> dict[str, Callable[[], list[Comparison]]]:
    """Return functions that make the comparisons, by the title of the measure."""
    return {
        "retrieval 5,794 x 2,048": lambda: ranking(5794, 2048),
        "retrieval 20,000 x 512": lambda: ranking(20000, 512),
        "kNN": neighbors,
        "outliers": centroids,
        "effective rank": rank,
        "probe of easy classes": lambda: probe(0.5, epochs),
        "probe of hard classes": lambda: probe(4.0, epochs),
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def row(title: str, one: Comparison, rounds: int) -> str:
    """Return the row of the table."""
    taken = [cpu_seconds(side) for side in [one.measure, one.peer] * rounds]
    own, other = min(taken[::2]), min(taken[1::2])
    return f"| {title} | {own:.2f} | {one.title} | {other:.2f} | {own / other:.2f} |"


@click.command(help=__doc__, context_settings={"max_content_width": 120})
@click.option("--rounds", default=3, show_default=True, help="Turns of each side.")
@click.option("--epochs", default=100, show_default=True, help="Epochs of the linear probe.")
@click.option("--only", default="", help="Parts of titles, separated by semicolons; all by default.")
def main(rounds: int, epochs: int, only: str) -> None:
    """Print a table of all comparisons."""
    torch.set_num_threads(1)
    print("| measure | CPU-s | compared with | CPU-s | ratio |\n|---|---:|---|---:|---:|")
    for title, make in comparisons(epochs).items():
        if any(part in title for part in only.split(";")):
            for one in make():
                print(row(title, one, rounds), flush=True)


if __name__ == "__main__":
    main()
