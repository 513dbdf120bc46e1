"""Addition of a scheduler: one file and one line of the registry.

A sweep is submitted, synced and shown on a scheduler in a temporary file.
"""

import json
import os
from pathlib import Path

import pytest

from fgssl.__main__ import main
from fgssl.errors import UserError
from fgssl.processes import Processes
from hpc import ranks
from hpc.cluster.schedulers import SCHEDULERS
from tests.hpc.results import write_results

STUB = '''
"""A scheduler that keeps jobs in a file and runs none of them."""

import json
import os
from pathlib import Path

from hpc.cluster.schedulers.scheduler import JobFact, JobPlace, JobState, Submitter

JOBS = Path(__file__).with_name("jobs.json")
STATES = {"waits": JobState.PENDING, "works": JobState.RUNNING, "well": JobState.COMPLETED}


class Stub:
    reserved_options = frozenset({"time"})
    submit_command = cancel_command = "sh"
    launcher, launcher_option, launcher_advice = "stubrun", "-n", "Begin the line with stubrun"

    def place(self):
        rank, size = (int(os.environ.get(name, "0")) for name in ("STUB_RANK", "STUB_SIZE"))
        return JobPlace(
            *("7", 0, "0", 0),
            asked=max(1, size),
            started=size,
            local_started=size,
            task=rank,
            local_task=rank,
            nodes="localhost",
            node_count=1,
            node="localhost",
            node_number=0,
            memory_mb=None,
        )

    def script(self, job):
        return f"#STUB {job.request.job_name} {job.tasks} {' '.join(job.request.after)}\\npython -m {job.module}\\n"

    def submit(self, file):
        _, name, tasks, *after = file.read_text().splitlines()[0].split()
        jobs = self._jobs()
        job_id = str(len(jobs) + 1)
        jobs[job_id] = {"name": name, "tasks": int(tasks), "after": after, "state": "waits"}
        JOBS.write_text(json.dumps(jobs))
        return job_id

    def facts(self, job_ids):
        jobs = self._jobs()
        found = {job_id: jobs[job_id.partition("_")[0]] for job_id in job_ids}
        return {
            job_id: JobFact(job_id, job["name"], STATES[job["state"]], started=None if job["state"] == "waits" else 1.0)
            for job_id, job in found.items()
        }

    def up_since(self):
        return 0.0

    def submitter(self):
        return Submitter("me", os.getuid(), "stub", "here")

    def find(self, name):
        return [job_id for job_id, job in self._jobs().items() if job["name"] == name]

    def _jobs(self):
        return json.loads(JOBS.read_text()) if JOBS.exists() else {}
'''
SWEEP = """
name: tiny
title: Tiny
baseline: base
seeds: [0, 1]
settings:
  data: {toy: {train_images_per_species: 6, test_images_per_species: 2}}
  resources: {device: cpu}
  start: {decoder: {stage: decoder}}
  method: {name: synthesized, base: {queue_size: 128}}
  views: {image_size: 32}
  evaluation: {linear: {label_fractions: [1.0]}}
stages:
  decoder: {start: {decoder: null}, method: {name: decoder}, training: {optimizer: {name: adam}}}
arms:
  base: {settings: {method: {noise: {variant: grad_cam, sigma_grad_cam: 0.25}}}}
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file with the jobs of the stub scheduler."""
    (tmp_path / "stub_scheduler.py").write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SCHEDULERS, "stub", "stub_scheduler:Stub")
    return tmp_path / "jobs.json"


def test_a_scheduler_is_one_file_and_one_line(stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(SWEEP)
    given = ["sweep", str(file), "--cluster", "generic", "cluster.scheduler=stub", "--out", str(out)]
    assert main([*given, "--dry-run"]) == 0
    assert "#STUB tiny-order-1 2" in capfd.readouterr().out
    assert not stub.exists()

    assert main(given) == 0
    assert json.loads((out / "cluster" / "sweep.json").read_text())["scheduler"] == "stub"
    jobs = json.loads(stub.read_text())
    orders = [job for job in jobs.values() if "keeper" not in job["name"]]
    assert [job["tasks"] for job in orders] == [2, 1, 1]  # what waits for other jobs is another array
    assert all(job["after"] for job in orders[1:])

    jobs |= {job_id: {**job, "state": "works"} for job_id, job in jobs.items() if job["tasks"] == 2}
    stub.write_text(json.dumps(jobs))
    assert main(["sync", str(out)]) == 0
    assert json.loads(stub.read_text()) == jobs  # nothing is ordered twice
    capfd.readouterr()
    assert main(["status", str(out)]) == 0
    shown = capfd.readouterr().out
    assert "4 runs: 2 pending, 2 running" in shown

    for run in json.loads((out / "cluster" / "sweep.json").read_text())["runs"]:
        write_results(out / "runs" / run["run"], run["results"])
    assert main(["status", str(out)]) == 0
    assert "4 runs: 4 done" in capfd.readouterr().out


def test_processes_that_its_launcher_started_find_each_other(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"STUB_RANK": "1", "STUB_SIZE": "2"})
    with pytest.raises(UserError, match=r"but the world size is 2 \(from stubrun\): .*it starts -n"):
        ranks.processes(tmp_path, 3)
    for rank in (0, 1):
        monkeypatch.setattr(os, "environ", {"STUB_RANK": str(rank), "STUB_SIZE": "2"})
        assert ranks.processes(tmp_path, 2) == Processes(rank, 2, rank, 2, "stubrun")
        assert (os.environ["RANK"], os.environ["MASTER_ADDR"]) == (str(rank), "localhost")


def test_a_scheduler_that_is_not_registered(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(SWEEP)
    assert main(["sweep", str(file), "--cluster", "generic", "cluster.scheduler=slrum", "--dry-run"]) == 2
    assert "cluster.scheduler: unknown scheduler 'slrum': did you mean 'slurm'?" in capfd.readouterr().err
