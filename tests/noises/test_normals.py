"""Random numbers on the device equal those of numpy."""

import numpy as np
import pytest
import torch

from fgssl import randomness
from fgssl.noises.normals import normal


@pytest.mark.parametrize("columns", [1, 7, 64])
@pytest.mark.parametrize("counters", [(), (3,), (12345, 2)])
def test_equal_the_numbers_of_numpy(counters: tuple[int, ...], columns: int) -> None:
    rows = np.array([0, 1, 5, 2**31, 2**40 + 3])
    expected = randomness.normal(7, "noise/grad_cam", *counters, rows=rows, columns=columns)
    found = normal(7, "noise/grad_cam", *counters, rows=torch.from_numpy(rows), columns=columns)
    assert found.dtype == torch.float64
    assert found.shape == (5, columns)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equal_on_a_gpu() -> None:
    rows = torch.arange(1000)
    expected = normal(7, "noise/grad_cam", 3, rows=rows, columns=64)
    found = normal(7, "noise/grad_cam", 3, rows=rows.cuda(), columns=64)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12)
