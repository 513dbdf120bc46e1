"""The divergence of attention maps against its definition, term by term."""

import math

import pytest
import torch

from fgssl.losses import attention_divergence_per_row


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_it_is_the_sum_of_p_log_p_over_q(temperature: float) -> None:
    attention, goal = torch.randn(2, 3, 5, dtype=torch.float64)
    for found, wanted, value in zip(
        attention.tolist(), goal.tolist(), attention_divergence_per_row(attention, goal, temperature), strict=True
    ):
        q, p = ([math.exp(one / temperature) for one in row] for row in (found, wanted))
        expected = sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        assert value == pytest.approx(expected, rel=1e-9)


def test_equal_shapes_up_to_a_constant_do_not_diverge() -> None:
    goal = torch.randn(4, 9)
    torch.testing.assert_close(attention_divergence_per_row(goal + 3, goal), torch.zeros(4), atol=1e-6, rtol=0)
    assert (attention_divergence_per_row(-goal, goal) > 0.1).all()


def test_it_is_computed_in_single_precision_under_autocast() -> None:
    attention, goal = torch.randn(2, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = attention_divergence_per_row(attention, goal)
    assert torch.equal(inside, attention_divergence_per_row(attention, goal))
    half = attention_divergence_per_row(attention.bfloat16(), goal.bfloat16())
    assert half.dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        attention_divergence_per_row(torch.zeros(1, 2), torch.zeros(1, 2), temperature)
