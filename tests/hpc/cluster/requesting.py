"""Requests of jobs under the shipped profiles, for tests."""

from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings.layers import Place, to_yaml
from hpc.cluster.schedulers.scheduler import JobRequest
from hpc.cluster.site.job_settings import JobSettings, Origin
from hpc.cluster.site.profile import Profile
from hpc.cluster.site.profile_files import load_profile
from hpc.cluster.site.requests import request

SLURM = Path(__file__).parents[3] / "slurm"
ACCOUNTS = {"karolina": "OPEN-12-34", "lumi_g": "project_465000001", "generic": "any"}


def profile_of(name: str, *overrides: str, account: bool = True) -> Profile:
    usual = {"cluster.account": ACCOUNTS.get(name, "def-someuser")} if account else {}
    usual |= {"cluster.environment.container": "/project/fgssl.sif"} if name == "lumi_g" else {}
    given = {override.partition("=")[0] for override in overrides}
    return load_profile(
        SLURM / f"{name}.yaml", [*(f"{key}={value}" for key, value in usual.items() if key not in given), *overrides]
    )


def profile_in(folder: Path, **content) -> Profile:
    file = folder / "mine.yaml"
    file.write_text(to_yaml({"site": "here"} | content))
    return load_profile(file)


def requested(profile: Profile, on_gpus: bool = True, **asked) -> JobRequest:
    return request(JobSettings(**asked), profile, on_gpus, "job")


def problems_of(profile: Profile, on_gpus: bool = True, **asked) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        request(
            JobSettings(**asked),
            profile,
            on_gpus,
            "job",
            Origin({key: Place("sweep.yaml", f"jobs.tau.{key}") for key in asked}),
        )
    return {problem.key: str(problem) for problem in caught.value.problems}
