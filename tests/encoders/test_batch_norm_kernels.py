"""The kernels of grouped BatchNorm, by triton's interpreter; on a GPU `tests/gpu/test_batch_norm.py` runs them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_the_kernels_compute_what_batch_norm_does_group_by_group() -> None:
    command = [sys.executable, "-m", "tests.encoders.check_batch_norm_kernels", "cpu"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
