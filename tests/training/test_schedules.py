"""Values that change over training."""

import math

import pytest
import torch

from fgssl.schedules import Schedule, cosine


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


@pytest.mark.parametrize(
    ("shape", "values"), [("constant", [2.0, 2.0, 2.0]), ("cosine", [2.0, 3.0, 4.0]), ("linear", [2.0, 3.0, 4.0])]
)
def test_from_start_to_end(shape: str, values: list[float]) -> None:
    schedule = Schedule(2.0, end=4.0, shape=shape)  # type: ignore[arg-type]
    assert [schedule.at(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx(values)


def test_a_constant_is_its_start_to_the_last_bit() -> None:
    assert Schedule(0.1, end=0.7, shape="constant").at(0.3) == 0.1 != 0.7 + (0.1 - 0.7)


def test_shapes_differ_between_the_ends() -> None:
    assert Schedule(1.0, shape="linear").at(0.25) == 0.75
    assert Schedule(1.0).at(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_warm_up_rises_linearly_on_top_of_the_shape() -> None:
    constant, falling = Schedule(1.0, shape="constant", warm_up=0.2), Schedule(1.0, warm_up=0.2)
    assert [constant.at(progress) for progress in (0.0, 0.05, 0.1, 0.2, 0.5)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    assert falling.at(0.1) == pytest.approx(0.5 * (1 + math.cos(0.1 * math.pi)) / 2)
    assert falling.at(0.6) == cosine(0.6)
    assert Schedule(1.0, end=0.5, warm_up=0.2).at(0.1) == pytest.approx((0.5 + 0.5 * cosine(0.1)) / 2)


def test_a_delayed_value_is_0_at_first_and_then_as_without_delay() -> None:
    plain, delayed = Schedule(1.0, warm_up=0.5), Schedule(1.0, warm_up=0.5, delay=0.25)
    assert [delayed.at(progress) for progress in (0.0, 0.1, 0.2499)] == [0.0, 0.0, 0.0]
    assert [delayed.at(progress) for progress in (0.25, 0.4, 1.0)] == [plain.at(one) for one in (0.25, 0.4, 1.0)]


def test_the_bits_of_rate_and_momentum_are_those_of_their_formulas() -> None:
    for step in range(997):
        progress, warm_up = step / 997, 0.13
        rise = min(1.0, progress / warm_up)
        assert Schedule(0.0375, warm_up=warm_up).at(progress) == 0.0375 * (cosine(progress) * rise)
        assert Schedule(0.0375).at(progress) == 0.0375 * cosine(progress)
        assert Schedule(1e-4, 1e-4).at(progress) == Schedule(1e-4, shape="constant").at(progress) == 1e-4
        momentum = 1 - (1 - 0.996) * (math.cos(math.pi * progress) + 1) / 2  # BYOL's
        assert Schedule(0.996, end=1.0).at(progress) == momentum
