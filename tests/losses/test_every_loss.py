"""Properties of every loss: precision, gradients, order of the batch, lengths of embeddings, wrong shapes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fgssl.errors import NoPositivesError, UserError
from fgssl.losses import (
    at_least_fp32,
    barlow_twins,
    hcl,
    himulcone,
    info_nce_per_row,
    n_pairs,
    negative_cosine,
    nt_xent,
    supcon,
    vicreg_terms,
)

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]

IMAGES = 6
SPECIES_AND_GENUS = torch.tensor([[0, 0], [0, 0], [1, 0], [2, 1], [3, 1], [4, 2]])
QUEUE = torch.linspace(-1, 1, 9 * 8, dtype=torch.float64).sin().reshape(9, 8)


def labeled(loss: Callable[..., Tensor], *options: object) -> Loss:
    """Return `loss` of both views' embeddings, with labels of the finest level, or of both levels if it has weights."""

    def of_views(first: Tensor, second: Tensor, labels: Tensor, temperature: float) -> Tensor:
        labels = labels.repeat(2, 1)
        if options:
            weights, weighting = options
            return loss(torch.cat([first, second]), labels, weights, temperature, weighting)
        return loss(torch.cat([first, second]), labels[:, 0], temperature)

    return of_views


LOSSES: dict[str, Loss] = {
    "nt_xent": lambda first, second, labels, temperature: nt_xent(first, second, temperature),
    "info_nce": lambda first, second, labels, temperature: info_nce_per_row(
        first, second, QUEUE.to(at_least_fp32(first).dtype), temperature
    ).mean(),
    "negative_cosine": lambda first, second, labels, temperature: negative_cosine(first, second),
    "supcon": labeled(supcon),
    "n_pairs": labeled(n_pairs),
    "hcl_pair": labeled(hcl, [1.0, 0.1], "pair"),
    "hcl_mass": labeled(hcl, [1.0, 0.1], "mass"),
    "barlow_twins": lambda first, second, labels, temperature: barlow_twins(first, second, 0.005),
    "vicreg": lambda first, second, labels, temperature: torch.stack(vicreg_terms(first, second)).sum(),
    "hcl_ignore": labeled(hcl, [1.0, 0.1], "ignore"),
    "himulcone": lambda first, second, labels, temperature: himulcone(
        torch.cat([first, second]), labels.repeat(2, 1), [2.0, 1.4], temperature
    ),
}
OF_DIMENSIONS = ("barlow_twins", "vicreg")
"""Losses of columns, over the batch: not of cosines, and without a temperature."""


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES[request.param]


def views(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, IMAGES, 8, dtype=torch.float64).to(dtype)
    return first.requires_grad_(), second.requires_grad_()


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_give_a_single_precision_loss_and_finite_gradients(
    loss: Loss, dtype: torch.dtype, temperature: float
) -> None:
    first, second = views(dtype)
    value = loss(first, second, SPECIES_AND_GENUS, temperature)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(first.float(), second.float(), SPECIES_AND_GENUS, temperature))
    for gradient in torch.autograd.grad(value, (first, second)):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_autocast_does_not_reach_the_loss_or_its_gradients(loss: Loss) -> None:
    rows = views(torch.float32)
    outside = loss(*rows, SPECIES_AND_GENUS, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(*rows, SPECIES_AND_GENUS, 0.1)
    assert torch.equal(inside, outside)
    for found, expected in zip(torch.autograd.grad(inside, rows), torch.autograd.grad(outside, rows), strict=True):
        assert found.isfinite().all()
        assert torch.equal(found, expected)


def test_double_precision_stays_double_and_has_the_right_gradient(loss: Loss) -> None:
    rows = views(torch.float64)
    assert loss(*rows, SPECIES_AND_GENUS, 0.2).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda first, second: loss(first, second, SPECIES_AND_GENUS, 0.2), rows)


def test_neither_the_order_of_the_images_nor_of_the_views_matters(loss: Loss) -> None:
    first, second = views(torch.float64)
    order = torch.randperm(IMAGES)
    expected = loss(first, second, SPECIES_AND_GENUS, 0.1)
    found = loss(first[order], second[order], SPECIES_AND_GENUS[order], 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    if loss is not LOSSES["info_nce"]:  # whose second view is a candidate of its own query only
        found = loss(second, first, SPECIES_AND_GENUS, 0.1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in OF_DIMENSIONS])
def test_the_length_of_a_row_does_not_matter(name: str) -> None:
    loss = LOSSES[name]
    first, second = views(torch.float64)
    lengths = torch.logspace(-3, 3, IMAGES, dtype=torch.float64)[:, None]
    expected = loss(first, second, SPECIES_AND_GENUS, 0.1)
    found = loss(first * lengths, second * lengths.flip(0), SPECIES_AND_GENUS, 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("zero_rows", [1, IMAGES])
def test_zero_vectors_give_no_nan_in_single_precision(loss: Loss, zero_rows: int) -> None:
    """Of float32 rows: in float16 the gradient of a zero row, about 1e12 times the others', overflows."""
    first, second = views(torch.float32)
    with torch.no_grad():
        first[:zero_rows] = 0
        second[:zero_rows] = 0
    value = loss(first, second, SPECIES_AND_GENUS, 0.1)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, (first, second)))


def test_an_empty_batch_raises(loss: Loss) -> None:
    nothing = torch.empty(0, 8)
    with pytest.raises(NoPositivesError) as raised:
        loss(nothing, nothing, SPECIES_AND_GENUS[:0], 0.1)
    assert isinstance(raised.value, UserError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("negative_cosine", *OF_DIMENSIONS)])
def test_a_temperature_that_is_not_above_0(name: str, temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature {temperature}: must be above 0"):
        LOSSES[name](*views(torch.float32), SPECIES_AND_GENUS, temperature)


def test_wrong_shapes_are_named() -> None:
    rows, labels = torch.randn(6, 8), torch.arange(6)
    for two_views in (nt_xent, lambda first, second, _: info_nce_per_row(first, second, rows, 0.1)):
        with pytest.raises(ValueError, match=r"\(6, 8\) and \(1, 8\)"):
            two_views(rows, rows[:1], 0.1)
    with pytest.raises(ValueError, match=r"\(8,\) and \(8,\)"):
        negative_cosine(rows[0], rows[1])
    for of_pairs in (negative_cosine, vicreg_terms, lambda first, second: barlow_twins(first, second, 0.005)):
        with pytest.raises(ValueError, match=r"\(6, 8\) and \(6, 7\)"):
            of_pairs(rows, rows[:, :7])
    with pytest.raises(ValueError, match=r"queue of shape \(6, 7\).*\(K, 8\)"):
        info_nce_per_row(rows, rows, rows[:, :7], 0.1)
    for by_label in (supcon, n_pairs):
        with pytest.raises(ValueError, match=r"labels of shape \(6, 1\).*\(6,\)"):
            by_label(rows, labels[:, None], 0.1)
        with pytest.raises(ValueError, match=r"embeddings of shape \(8,\)"):
            by_label(rows[0], labels, 0.1)
    with pytest.raises(ValueError, match=r"labels of shape \(6, 1\).*\(6, 2\)"):
        hcl(rows, labels[:, None], [1.0, 0.1], 0.1)
