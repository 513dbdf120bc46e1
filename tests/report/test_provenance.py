"""Provenance of a cell: its runs and jobs, its own settings, and its versions of code and data."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fgssl.__main__ import main
from fgssl.report.page.content import Provenance
from fgssl.report.provenance import RunJobs, describe, provenances, run_states
from fgssl.report.rows import collect_rows
from fgssl.settings import config as configs
from fgssl.store.plan import read_plan
from fgssl.store.records import PROGRESS, Progress
from fgssl.store.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
CELL = "sigma=0.5"


def origin(out: Any, cell: str, **jobs: RunJobs) -> Provenance:
    plan = read_plan(out.path)
    return provenances(plan, collect_rows(plan, out.path), out.path, jobs)[cell]


def test_runs_with_their_states_hours_and_jobs(out: Any) -> None:
    out.finish(CELL, 0, 50.0)
    out.fail(CELL, 1, "Traceback\nValueError: the sigma is wrong\n")
    name = out.planned(CELL, 1)["run"]
    found = origin(out, CELL, **{name: RunJobs(("12_0", "15"), "cluster/logs/a-0.log")})
    assert found.title == "sigma=0.5: 1 of 3 runs are done"
    assert [(one.run.seed, one.run.state, one.hours) for one in found.runs] == [
        (0, "done", (10.5 + 2.25) / 3600),
        (1, "failed", None),
        (2, "missing", None),
    ]
    failed = found.runs[1]
    assert (failed.run.name, failed.run.cell, failed.run.detail) == (name, CELL, "ValueError: the sigma is wrong")
    assert (failed.jobs, failed.log) == (("12_0", "15"), "cluster/logs/a-0.log")
    assert (found.code, found.data) == ("c1", "d1")


def test_a_run_at_work_shows_its_step(out: Any) -> None:
    config = configs.parse(out.planned(CELL, 0)["config"], "test")
    with RunFolder(out.folder(CELL, 0)).lease(config) as lease:
        lease.write_record(
            PROGRESS, Progress(step=3, total_steps=9, loss=1.0, images_per_s=1.0, updated=time.time()), durable=False
        )
        plan = read_plan(out.path)
        states = run_states(plan, collect_rows(plan, out.path), out.path)
    assert next((run.state, run.detail) for run in states if run.cell == CELL) == ("running", "step 3 of 9")
    assert len(states) == 9


def test_settings_that_differ_from_the_baseline_and_can_change_a_result(out: Any) -> None:
    for seed in range(3):
        out.planned(CELL, seed)["config"]["resources"]["threads"] = 7
        out.planned(CELL, seed)["config"]["training"]["gradient_clip_norm"] = 1.0
    out.write_plan()
    differences = {name: (there, here) for name, there, here in origin(out, CELL).differences}
    assert differences["method.name"] == ("mocov2", "synthesized")
    assert differences["method.noise.sigma_grad_cam"] == ("–", "0.5")
    assert differences["training.gradient_clip_norm"] == ("–", "1.0")
    assert not [name for name in differences if name.startswith(("resources", "start.encoder", "seed"))]
    assert origin(out, "base").differences == ()


def test_a_start_is_named_by_its_stage(out: Any) -> None:
    for seed in range(3):
        out.planned("base", seed)["config"]["start"]["encoder"] = None
    out.write_plan()
    assert ("start.encoder.run", "–", "pretrain") in origin(out, CELL).differences


def test_versions_that_differ_have_their_seeds(out: Any) -> None:
    for seed, version in enumerate(["d1", "d1", "d2"]):
        out.finish(CELL, seed, 50.0, data_version=version)
    assert origin(out, CELL).data == "d1 (seeds 0, 1); d2 (seeds 2)"
    assert origin(out, "base").code == "–"


def test_text(out: Any) -> None:
    out.finish(CELL, 0, 50.0)
    out.fail(CELL, 1, "boom\n")
    runs = [out.planned(CELL, seed)["run"] for seed in range(3)]
    found = origin(out, CELL, **{runs[1]: RunJobs(("12", "15"), "cluster/logs/a-0.log")})
    found = dataclasses.replace(found, differences=(("a.b", "1", "2"), ("long.name", "–", "x")))
    assert describe(found, "base").splitlines() == [
        "sigma=0.5: 1 of 3 runs are done",
        f"  seed 0: done, 0.00 hours, runs/{runs[0]}",
        f"  seed 1: failed, runs/{runs[1]}",
        "    boom",
        "    jobs 12, 15",
        "    log cluster/logs/a-0.log",
        f"  seed 2: missing, runs/{runs[2]}",
        "    waits for stage pretrain of seed 2, MISSING: not run yet",
        "settings that differ from base:",
        "  a.b        1 -> 2",
        "  long.name  – -> x",
        "code c1",
        "data d1",
    ]


def test_command_prints_it_and_writes_nothing(out: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out.finish(CELL, 0, 50.0)
    log = out.path / "jobs" / "20260101-000000" / "job-001" / "output.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"---- {CELL}, seed 0: {out.planned(CELL, 0)['run']}\nstep 1\n")
    before = sorted(out.path.rglob("*"))
    assert main(["aggregate", str(out.path), "--why", CELL]) == 0
    printed, error = capsys.readouterr()
    assert printed.startswith("sigma=0.5: 1 of 3 runs are done\n")
    assert "    jobs 20260101-000000/job-001\n    log jobs/20260101-000000/job-001/output.log\n" in printed
    assert "settings that differ from base:\n" in printed
    assert error == ""
    out.fail(CELL, 1, "boom\n")
    assert main(["aggregate", str(out.path), "--why", CELL]) == 0
    assert capsys.readouterr().err == f"next: fgssl logs {out.path} {CELL}  # show why runs failed\n"
    assert [path for path in sorted(out.path.rglob("*")) if path not in before and "runs" not in path.parts] == []


def test_an_unknown_cell(out: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aggregate", str(out.path), "--why", "sigma=0.4"]) == 2
    assert capsys.readouterr().err.startswith("error: --why: unknown cell 'sigma=0.4': did you mean 'sigma=0.")


def test_needs_no_pandas_and_no_torch(out: Any) -> None:
    code = (
        "import sys; from fgssl.__main__ import main; main(sys.argv[1:]); print({'torch', 'pandas'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "aggregate", str(out.path), "--why", "base"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("set()\n")


def test_holds_no_absolute_path(out: Any) -> None:
    out.finish(CELL, 0, 50.0)
    assert str(out.path) not in json.dumps(dataclasses.asdict(origin(out, CELL)))
