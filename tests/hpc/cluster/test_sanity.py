"""Sanity rows become jobs like all other cells."""

from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from hpc.cluster.cluster_sweep import on_cluster
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
from tests.hpc.cluster.requesting import profile_of

SOTA = Path(__file__).parents[3] / "sweeps" / "sota.yaml"


def test_each_row_is_a_job_with_its_own_request() -> None:
    made = plan(expand(SOTA, None, ["seeds=[0]", "jobs={default: {walltime_min: 60}, pixels: {walltime_min: 9}}"]))
    runs = {run.label: run for run in on_cluster(made, profile_of("generic"))}
    minutes = {label: run.request.walltime_min for label, run in runs.items()}
    assert (minutes["pixels, seed 0"], minutes["chance, seed 0"]) == (9, 60)
    assert runs["start_encoder, seed 0"].needs == (runs["pretrain, seed 0"].run,)
    assert runs["pixels, seed 0"].needs == runs["random_weights, seed 0"].needs == ()


def test_a_row_that_is_not_in_the_sweep_has_no_jobs() -> None:
    made = plan(expand(SOTA, None, ["sanity=[chance]", "jobs={pixels: {walltime_min: 9}}"]))
    with pytest.raises(SettingsError, match=r"jobs\.pixels: unknown .* 'pixels'"):
        on_cluster(made, profile_of("generic"))
