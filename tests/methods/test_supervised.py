"""Methods with labels: the loss recomputed by hand from the images, and the trained networks."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Batch, Output
from tests.one_process import accumulate_gradient

Make = Callable[..., Any]
HEAD = "hidden_width: 16, projection_width: 8"


def step(method: Any, batch: Batch) -> Output:
    return accumulate_gradient(method, batch, len(batch), 0)[0]


def assert_same_gradients(method: nn.Module, by_hand: nn.Module) -> None:
    for (name, parameter), other in zip(method.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


def by_pairs(embeddings: Tensor, weight: Callable[[int, int], float], temperature: float) -> Tensor:
    """Return -mean_i [sum_j w_ij log p_ij / sum_j w_ij], pair by pair."""
    unit = F.normalize(embeddings, dim=1)
    anchors = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        log_p = torch.stack([unit[i] @ unit[j] / temperature for j in others]).log_softmax(dim=0)
        weights = torch.tensor([weight(i, j) for j in others])
        anchors.append(-(weights * log_p).sum() / weights.sum())
    return torch.stack(anchors).mean()


def test_cross_entropy(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    for level in (0, 1):
        method, batch = tiny_method(f"method={{name: cross_entropy, level: {level}}}"), random_batch()
        assert method.classifier.out_features == (24, 6)[level]
        by_hand = copy.deepcopy(method)
        logits = by_hand.classifier(by_hand.encoder(batch.views[0]))
        expected = F.nll_loss(logits.log_softmax(dim=1), batch.labels[:, level])
        expected.backward()
        output = step(method, batch)
        torch.testing.assert_close(output.loss, expected)
        assert_same_gradients(method, by_hand)
        hits = (logits.argmax(dim=1) == batch.labels[:, level]).float().mean()
        assert output.metrics["training_accuracy"].item() == pytest.approx(100 * hits.item())
    assert method.exports().keys() == {"encoder", "classifier"}


@pytest.mark.parametrize("level", [0, 1])
def test_supcon(level: int, tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method(f"method={{name: supcon, temperature: 0.3, level: {level}, {HEAD}}}")
    batch = random_batch()
    by_hand = copy.deepcopy(method)
    embeddings = torch.cat([by_hand.head(by_hand.encoder(view)) for view in batch.views])
    labels = batch.labels[:, level].repeat(2)  # both views of a class are positives
    expected = by_pairs(embeddings, lambda i, j: float(labels[i] == labels[j]), 0.3)
    expected.backward()
    torch.testing.assert_close(step(method, batch).loss, expected)
    assert_same_gradients(method, by_hand)


def test_hcl_and_the_mass_of_the_genus(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method(f"method={{name: hcl, temperature: 0.3, level_weights: [1.0, 0.2], {HEAD}}}")
    batch = random_batch()  # 32 images: 4 of each of 8 species, 4 species a genus
    by_hand = copy.deepcopy(method)
    embeddings = torch.cat([by_hand.head(by_hand.encoder(view)) for view in batch.views])
    species, genus = batch.labels.repeat(2, 1).T

    def weight(i: int, j: int) -> float:
        return 1.0 if species[i] == species[j] else 0.2 * float(genus[i] == genus[j])

    expected = by_pairs(embeddings, weight, 0.3)
    expected.backward()
    output = step(method, batch)
    torch.testing.assert_close(output.loss, expected)
    assert_same_gradients(method, by_hand)
    # An anchor has 7 positives of its species and 24 of its genus only: 24 * 0.2 / (7 + 24 * 0.2)
    assert output.metrics["target_mass_level1"].item() == pytest.approx(4.8 / 11.8)
    assert output.metrics["target_mass_level0"].item() == pytest.approx(7.0 / 11.8)


def test_hmlc_with_rising_weights(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method(f"method={{name: hmlc, temperature: 0.3, level_weights: [0.0, 2.0], {HEAD}}}")
    batch = random_batch()
    embeddings = torch.cat([method.head(method.encoder(view)) for view in batch.views])
    of_levels = [losses.supcon(embeddings, labels, 0.3) for labels in batch.labels.repeat(2, 1).T]
    torch.testing.assert_close(step(method, batch).loss, torch.maximum(*of_levels))


def test_n_pairs(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method, batch = tiny_method("method={name: n_pairs, projection_width: 8, temperature: 0.3}"), random_batch()
    by_hand = copy.deepcopy(method)
    unit = F.normalize(by_hand.head(by_hand.encoder(batch.views[0])), dim=1)
    labels = batch.labels[:, 0]
    expected = torch.zeros(())
    for i in range(32):
        same = labels == labels[i]  # itself too
        expected = expected - (unit @ unit[i] / 0.3).log_softmax(dim=0)[same].mean() / 32
    expected.backward()
    torch.testing.assert_close(step(method, batch).loss, expected)
    assert_same_gradients(method, by_hand)


def test_on_a_frozen_encoder_only_the_classifier_learns(tiny_method: Make, random_batch: Callable[..., Batch]) -> None:
    method = tiny_method("method={name: cross_entropy}", "encoder.frozen=[all]")
    before = copy.deepcopy(method.encoder.state_dict())
    optimizer = torch.optim.SGD(method.trained_parameters(), lr=0.1)
    step(method, random_batch())
    optimizer.step()
    assert {id(p) for p in method.trained_parameters()} == {id(p) for p in method.classifier.parameters()}
    assert method.classifier.weight.grad.abs().max() > 0
    for name, value in method.encoder.state_dict().items():  # its running statistics too
        assert torch.equal(value, before[name])
