"""Jobs that sbatch refuses: the message, and how the same command goes on."""

from pathlib import Path

import pytest

from fgssl.__main__ import invoke
from fgssl.errors import UserError
from hpc.cluster.job_store import JobStore
from hpc.cluster.schedulers.scheduler import JobRequest, JobScript, RefusedError, Requeue
from hpc.cluster.schedulers.slurm import Slurm
from tests.hpc.fake_slurm.cluster import FakeSlurm


def _submit(store: JobStore, request: JobRequest) -> None:
    script = JobScript(request, "module", (), store.log("job", 0), Path("/code"), Requeue.WHEN_INTERRUPTED)
    file = store.folder / "job.sh"
    file.write_text(Slurm().script(script))
    Slurm().submit(file)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (
            "Invalid account or account/partition combination specified",
            "account: set cluster.account=NAME",
        ),
        ("invalid partition specified: gpuu", "partition: set jobs.default.partition=NAME"),
        ("Invalid qos specification", "QOS: set jobs.default.qos=NAME"),
        (
            "Requested time limit is invalid (missing or exceeds some limit)",
            "walltime: lower jobs.default.walltime_min",
        ),
        ("Requested node configuration is not available", "size: no node of the partition is that large"),
        ("Memory specification can not be satisfied", "size: no node of the partition is that large"),
        ("Invalid generic resource (gres) specification", "size: no node of the partition is that large"),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "a limit of your account or QOS: lower",
        ),
        ("Invalid feature specification", "jobs.default.options: the site has no such constraint or reservation"),
    ],
)
def test_a_refusal_tells_what_was_asked_and_the_likely_cause(
    words: str, cause: str, tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    """Words of Slurm 22.05 to 24.11."""
    _refuse(fake_slurm, words)
    store = JobStore(tmp_path / "out")
    store.make()
    asked_for = JobRequest("job", 600, partition="gpu", account="mine", gpus_per_node=1)
    with pytest.raises(RefusedError) as caught:
        _submit(store, asked_for)
    said, likely, asked, script = str(caught.value).splitlines()
    assert said == f"Batch job submission failed: {words}"
    assert likely.startswith(f"  likely cause: {cause}")
    assert asked == (
        "  options: --account=mine --cpus-per-task=1 --gpus-per-node=1 --nodes=1 --ntasks-per-node=1 --partition=gpu "
        "--time=600"
    )
    assert Path(script.removeprefix("  script: ")).read_text().startswith("#!/bin/bash")


def test_words_that_nobody_knows_are_given_as_they_are(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    _refuse(fake_slurm, "The moon is full")
    store = JobStore(tmp_path / "out")
    store.make()
    with pytest.raises(RefusedError, match="failed: The moon is full\n  options: --cpus-per-task=1 "):
        _submit(store, JobRequest("job", 600))


def test_after_a_refusal_the_same_command_goes_on(
    sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also with other settings than those that were refused, for none of them has begun."""
    out = tmp_path / "out"
    given = [str(sweep_file), "--cluster", "generic", "--out", str(out)]
    fake_slurm.configure(accounts=["mine"])
    assert invoke(["sweep", *given, "cluster.account=other"]) == 1
    printed = capfd.readouterr()
    first = "refused: pretrain, seed 0 and 1 more: Batch job submission failed: Invalid account or account/partition"
    assert printed.err.startswith(first)
    assert "nothing was submitted: fix the problems above, then run the same command again" in printed.err
    assert "10 runs: 10 waiting" in printed.out
    assert fake_slurm.jobs() == {}

    assert invoke(["sweep", *given, "cluster.account=mine", "settings.training.epochs=7", "seeds=[0]"]) == 0
    assert "5 runs: 5 pending" in capfd.readouterr().out
    assert {job["options"]["account"] for job in fake_slurm.jobs().values()} == {"mine"}

    words = r"plan.json: is the plan of a table of other runs"
    with pytest.raises(UserError, match=words):  # now some have
        invoke(["sweep", *given, "cluster.account=mine", "settings.training.epochs=8"])


def test_a_refusal_of_some_leaves_the_others(
    sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [str(sweep_file), "--cluster", "generic", "--out", str(tmp_path / "out"), "cluster.account=mine"]
    fake_slurm.configure(accounts=["mine"])
    assert invoke(["sweep", *given, "jobs.grad_cam.account=other"]) == 1
    assert "6 runs were submitted, 4 were not: fix the problems above" in capfd.readouterr().err
    assert invoke(["sweep", *given]) == 0
    assert "10 runs: 10 pending" in capfd.readouterr().out


def test_a_controller_that_is_away(
    sweep_file: Path, tmp_path: Path, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_slurm.configure(controller="away")
    assert invoke(["sweep", str(sweep_file), "--cluster", "generic", "--out", str(tmp_path / "out")]) == 1
    printed = capfd.readouterr()
    assert "Unable to contact slurm controller" in printed.out
    assert "nothing was submitted: fix the problems above, then run the same command again" in printed.err


def _refuse(fake_slurm: FakeSlurm, words: str) -> None:
    script = f'#!/bin/sh\necho "sbatch: error: Batch job submission failed: {words}" >&2\nexit 1\n'
    (fake_slurm.commands / "sbatch").write_text(script)
