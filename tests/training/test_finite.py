"""How long fp16 may skip steps."""

import math

import numpy as np
import pytest
import torch

from fgssl.data.loader import RawBatch
from fgssl.errors import NonFiniteError
from fgssl.training.finite import MOST_SKIPPED, FiniteCheck

ROWS = np.arange(4)
LOSS, FINITE, INFINITE = torch.tensor(1.0), torch.tensor(1.0), torch.tensor(math.inf)


def batch(step: int) -> RawBatch:
    return RawBatch(step, 0, 0, ROWS, ROWS, ROWS[:, None], ())


def test_a_run_that_skips_every_step_is_stopped() -> None:
    check = FiniteCheck(overflow_is_skipped=True)
    for step in range(MOST_SKIPPED):
        check.add(batch(step), LOSS, INFINITE)
    with pytest.raises(
        NonFiniteError, match=r"step 50 \(epoch 0\): 51 steps in a row skipped; loss 1.0, gradient norm inf"
    ):
        check.add(batch(MOST_SKIPPED), LOSS, INFINITE)


def test_skipped_steps_between_others_are_none_in_a_row() -> None:
    check = FiniteCheck(overflow_is_skipped=True)
    for step in range(4 * MOST_SKIPPED):
        check.add(batch(step), LOSS, INFINITE if step % 3 else FINITE)


def test_no_other_precision_may_skip_one() -> None:
    with pytest.raises(NonFiniteError, match=r"step 0 \(epoch 0\): loss 1.0, gradient norm inf"):
        FiniteCheck(overflow_is_skipped=False).add(batch(0), LOSS, INFINITE)


def test_a_run_that_ends_before_any_step_was_taken_is_no_result() -> None:
    check = FiniteCheck(overflow_is_skipped=True)
    for step in range(10):
        check.add(batch(step), LOSS, INFINITE)
    with pytest.raises(NonFiniteError, match="fp16 skipped all 10 steps, so nothing was trained"):
        check.finish(10)
    check.add(batch(10), LOSS, FINITE)
    check.finish(11)
    assert (check.skipped_steps, check.skipped_in_a_row) == (10, 0)
