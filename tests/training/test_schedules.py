"""Learning rates over training."""

import math

import pytest
import torch

from fgssl.schedules import cosine, learning_rate_factor


def test_cosine_equals_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert cosine(step / 20) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()
    assert cosine(0.0) == 1.0
    assert cosine(0.5) == pytest.approx(0.5)
    assert cosine(1.0) == 0.0


def test_without_warm_up_the_factor_is_the_schedule() -> None:
    for progress in (0.0, 0.3, 0.9):
        assert learning_rate_factor(progress, "cosine", 0.0) == cosine(progress)
        assert learning_rate_factor(progress, "constant", 0.0) == 1.0


def test_warm_up_rises_linearly_on_top_of_the_schedule() -> None:
    assert [learning_rate_factor(progress, "constant", 0.2) for progress in (0.0, 0.05, 0.1, 0.2, 0.5)] == (
        pytest.approx([0.0, 0.25, 0.5, 1.0, 1.0])
    )
    assert learning_rate_factor(0.1, "cosine", 0.2) == pytest.approx(0.5 * (1 + math.cos(0.1 * math.pi)) / 2)
    assert learning_rate_factor(0.6, "cosine", 0.2) == cosine(0.6)
