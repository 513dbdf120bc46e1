"""rows.csv: one row per run, in any state."""

import csv
import json
from typing import Any

import pytest

from fgssl.errors import UserError
from fgssl.report.rows import collect_rows, write_rows
from fgssl.settings import config as configs
from fgssl.settings import fingerprints
from fgssl.store.plan import read_plan
from fgssl.store.run_folder import RunFolder

KEY = "method.noise.sigma_grad_cam"
AWKWARD = 100 * 2 / 3 + 1e-13
FURTHER = [
    f"{before}_{percent}{after}"
    for before, after in (("linear", "_balanced"), ("learning_rate", ""), ("label_percent", ""))
    for percent in (100, 50, 20)
]
"""Columns that rows have, and tables only on demand."""


def test_columns_and_order_follow_the_plan(out: Any) -> None:
    rows = collect_rows(read_plan(out.path), out.path)
    assert list(rows[0]) == [
        *("sweep", "preset", "cell", "seed", KEY, "state"),
        *("linear_100", "linear_50", "linear_20", *FURTHER, "rank1", "rank5", "mAP"),
        *("wall_s", "fingerprint", "code_version", "data_version", "device", "processes", "engine", "threads"),
        *("versions", "reason", "remarks"),
    ]
    assert [(row["cell"], row["seed"]) for row in rows] == [
        (cell, seed) for cell in ("base", "sigma=0.1", "sigma=0.5") for seed in (0, 1, 2)
    ]
    assert [row[KEY] for row in rows] == [None] * 3 + [0.1] * 3 + [0.5] * 3
    assert {row["state"] for row in rows} == {"MISSING"}
    assert {row["linear_100"] for row in rows} == {None}


def test_label_fractions_make_the_columns(out: Any) -> None:
    for cell in out.content["cells"]:
        for run in cell["runs"]:
            run["config"]["evaluation"]["linear"]["label_fractions"] = [1.0, 0.125]
    out.content["metrics"] = ["linear_12.5"]
    out.write_plan()
    row = collect_rows(read_plan(out.path), out.path)[0]
    assert [name for name in row if name.startswith("linear")] == [
        *("linear_100", "linear_12.5", "linear_100_balanced", "linear_12.5_balanced"),
    ]


def test_a_done_run(out: Any) -> None:
    out.finish("sigma=0.1", 2, AWKWARD, code_version="abc")
    row = collect_rows(read_plan(out.path), out.path)[5]
    config = configs.parse(out.planned("sigma=0.1", 2)["config"], "test")
    assert row == {
        **{"sweep": "ablation_sigma", "preset": "demo", "cell": "sigma=0.1", "seed": 2, KEY: 0.1, "state": "DONE"},
        **{"linear_100": AWKWARD, "linear_50": 0.0, "linear_20": 0.0, "rank1": 0.0, "rank5": 0.0, "mAP": 0.0},
        **dict.fromkeys(FURTHER),  # not measured by an earlier version
        **{"wall_s": 12.75, "fingerprint": fingerprints.training_fingerprint(config), "code_version": "abc"},
        **{
            "data_version": "d1",
            "device": "cpu",
            "processes": "1",
            "engine": "ddp",
            "threads": "1",
            "versions": "python 3.11, torch 2.14",
            "reason": None,
            "remarks": None,
        },
    }
    assert out.planned("sigma=0.1", 2)["run"].endswith(row["fingerprint"])


def test_all_code_data_and_devices_that_took_part(out: Any) -> None:
    out.finish("base", 0, 50.0, code_version="c2", code_versions=["c1", "c2"])
    row = collect_rows(read_plan(out.path), out.path)[0]
    assert (row["code_version"], row["data_version"], row["device"]) == ("c1 + c2", "d1", "cpu")
    out.measured_by = {"code_version": "c3", "data_version": "d1", "device": "H100"}
    out.finish("base", 0, 50.0, code_version="c2", code_versions=["c1", "c2"])
    row = collect_rows(read_plan(out.path), out.path)[0]
    assert (row["code_version"], row["data_version"], row["device"]) == ("c1 + c2 + c3", "d1", "cpu + H100")


def test_numbers_survive_the_file_to_the_last_digit(out: Any) -> None:
    out.finish("base", 0, AWKWARD)
    out.finish("base", 1, 1e-300)
    rows = collect_rows(read_plan(out.path), out.path)
    write_rows(rows, out.path / "rows.csv")
    with (out.path / "rows.csv").open(newline="") as file:
        back = list(csv.DictReader(file))
    assert [float(row["linear_100"]) for row in back[:2]] == [AWKWARD, 1e-300]
    assert list(back[0]) == list(rows[0])
    assert len(back) == 9
    assert back[2]["linear_100"] == back[2]["wall_s"] == ""
    assert sorted(path.name for path in out.path.glob("*.csv*")) == ["rows.csv"]  # no temporary file is left


def test_infinity_in_a_plan(out: Any) -> None:
    for run in out.content["cells"][2]["runs"]:
        run["config"]["method"]["noise"]["threshold"] = float("inf")
    out.content["cells"][2]["grid"] = {KEY: float("inf")}
    out.write_plan()
    assert collect_rows(read_plan(out.path), out.path)[8][KEY] == float("inf")


def test_failed_shows_the_error_and_no_measures(out: Any) -> None:
    out.finish("base", 0, 50.0)
    out.fail("sigma=0.5", 1, "Traceback (most recent call last):\n  File x\nRuntimeError: out of luck\n\n")
    rows = collect_rows(read_plan(out.path), out.path)
    assert (rows[7]["state"], rows[7]["reason"]) == ("FAILED", "RuntimeError: out of luck")
    assert rows[7]["linear_100"] is None
    assert rows[7]["wall_s"] is None


def test_running_wins_over_an_old_failure(out: Any) -> None:
    out.fail("base", 1, "ValueError: old")
    config = configs.parse(out.planned("base", 1)["config"], "test")
    with RunFolder(out.folder("base", 1)).lease(config):
        row = collect_rows(read_plan(out.path), out.path)[1]
        assert (row["state"], row["reason"]) == ("RUNNING", "still running")
    assert collect_rows(read_plan(out.path), out.path)[1]["state"] == "FAILED"


def test_trained_but_not_evaluated_is_not_done(out: Any) -> None:
    out.finish("base", 0, 50.0)
    (evaluation,) = out.folder("base", 0).glob("evaluation-*.json")
    evaluation.unlink()
    row = collect_rows(read_plan(out.path), out.path)[0]
    assert (row["state"], row["linear_100"], row["data_version"]) == ("MISSING", None, "d1")


def test_measures_without_the_record_of_their_training_do_not_count(out: Any) -> None:
    out.finish("base", 0, 50.0)
    (out.folder("base", 0) / "trained.json").unlink()
    row = collect_rows(read_plan(out.path), out.path)[0]
    assert (row["state"], row["linear_100"], row["wall_s"]) == ("MISSING", None, None)


def test_another_evaluation_of_the_same_training_is_another_row(out: Any) -> None:
    out.finish("base", 0, 50.0)
    out.planned("base", 0)["config"]["evaluation"]["label_level"] = 1
    out.write_plan()
    assert collect_rows(read_plan(out.path), out.path)[0]["state"] == "MISSING"


def test_a_missing_run_names_the_stage_it_waits_for(out: Any) -> None:
    out.fail("pretrain", 1, "NonFiniteError: loss is nan at step 3")
    out.finish("pretrain", 2)
    rows = collect_rows(read_plan(out.path), out.path)
    assert rows[0]["reason"] == "waits for stage pretrain of seed 0, MISSING: not run yet"
    assert rows[4]["reason"] == "waits for stage pretrain of seed 1, FAILED: NonFiniteError: loss is nan at step 3"
    assert rows[2]["reason"] == "not run yet"


def test_no_plan(out: Any) -> None:
    (out.path / "plan.json").unlink()
    with pytest.raises(UserError, match=r"holds no sweep \(plan.json is missing\).*output folder of a sweep"):
        read_plan(out.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 1}, "schema is 1, but this version of fgssl reads 2"),
        ({"baseline": "bass"}, "baseline: there is no cell 'bass'; the cells are base, sigma=0.1, sigma=0.5"),
        ({"cells": [{"cell": "a"}]}, r"cells\.0\.arm: "),
        ({"surplus": 1}, "surplus: "),
    ],
)
def test_a_plan_that_does_not_fit(out: Any, change: dict[str, Any], message: str) -> None:
    (out.path / "plan.json").write_text(json.dumps(out.content | change))
    with pytest.raises(UserError, match=message):
        read_plan(out.path)


def test_a_plan_that_is_no_json(out: Any) -> None:
    (out.path / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot be read .*run the sweep again"):
        read_plan(out.path)
