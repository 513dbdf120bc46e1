"""A sweep of real trainings on a real Slurm, with interrupted jobs, has the same table as on this machine."""

import random
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster
from tests.slurm.same_table import NOISE, SWEEP, tables

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ARMS = {
    "base": SWEEP["arms"]["base"],
    "both": SWEEP["arms"]["both"] | {"grid": {NOISE: [0.5]}},
}


def test_the_table_is_that_of_this_machine(slurm: Cluster, tmp_path: Path) -> None:
    both = tables(slurm, tmp_path, SWEEP | {"arms": ARMS}, random.Random(0), told_to_leave=2)
    assert both.cluster == both.local
    assert both.points == {"base", "both sigma_grad_cam=0.5"}
    assert both.told_to_leave == 2
    assert both.launches > 3  # of three runs
