"""Notes under a table: warnings of runs that differ in their origin, and remarks on measures."""

from typing import Any

import pytest

from fgssl.report.markdown import markdown
from fgssl.report.rows import collect_rows
from fgssl.report.tables import remarks, warnings
from fgssl.store.plan import read_plan
from tests.report.test_tables import Finished, layout_of

EQUAL = (
    "for equal ones delete the folders of the other runs, runs/*-FINGERPRINT by column fingerprint of rows.csv, and "
    "give the command of the sweep again"
)


def test_runs_of_different_versions_are_told(finished: Finished) -> None:
    out = finished({"base": [50.0, 51.0, 52.0], "sigma=0.1": [50.0, 51.0, 52.0]})
    plan = read_plan(out.path)
    assert warnings(collect_rows(plan, out.path)) == []
    out.finish("base", 1, 51.0, code_version="c2")
    assert warnings(collect_rows(plan, out.path)) == [
        "base averages runs of different code versions: c1 (seeds 0, 2); c2 (seed 1)",
        EQUAL,
    ]
    assert markdown(layout_of(out)).endswith(
        f"- Warning: base averages runs of different code versions: c1 (seeds 0, 2); c2 (seed 1)\n- Warning: {EQUAL}\n"
    )
    for seed in (0, 1, 2):
        out.finish("base", seed, 51.0)
        out.finish("sigma=0.1", seed, 51.0, data_version="d2")
    assert warnings(collect_rows(plan, out.path)) == [
        "the cells come from different data versions: d1 (base); d2 (sigma=0.1)",
        EQUAL,
    ]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"device": "H100"}, "devices: cpu (seeds 0, 2); H100 (seed 1)"),
        ({"threads": 2}, "numbers of threads: 1 (seeds 0, 2); 2 (seed 1)"),
        (
            {"versions": {"python": "3.11", "torch": "2.15+cpu"}},
            "library versions: torch 2.14 (seeds 0, 2); torch 2.15+cpu (seed 1)",
        ),
    ],
)
def test_what_a_cell_mixes_is_told(finished: Finished, record: dict[str, Any], words: str) -> None:
    out = finished({"base": [50.0, 51.0, 52.0]})
    out.finish("base", 1, 51.0, **record)
    assert warnings(collect_rows(read_plan(out.path), out.path)) == [f"base averages runs of different {words}", EQUAL]


def test_runs_that_were_all_trained_by_the_same_two_codes_are_told(finished: Finished) -> None:
    out = finished({"base": [50.0, 51.0, 52.0]})
    for seed in (0, 1, 2):
        out.finish("base", seed, 51.0, code_version="c2", code_versions=["c1", "c2"])
    assert warnings(collect_rows(read_plan(out.path), out.path)) == [
        "base averages runs of different code versions: c1 + c2 (seeds 0, 1, 2)",
        EQUAL,
    ]


def test_an_evaluation_by_other_code_is_told(finished: Finished) -> None:
    out = finished({"base": [50.0, 51.0, 52.0]})
    out.measured_by = {"code_version": "c9", "data_version": "d1", "device": "cpu"}
    out.finish("base", 1, 51.0)
    assert warnings(collect_rows(read_plan(out.path), out.path)) == [
        "base averages runs of different code versions: c1 (seeds 0, 2); c1 + c9 (seed 1)",
        EQUAL,
    ]


def test_remarks_are_merged_over_seeds_and_cells() -> None:
    def row(cell: str, seed: int, *lines: str, state: str = "DONE") -> dict[str, Any]:
        return {"cell": cell, "seed": seed, "state": state, "remarks": "\n".join(lines) or None}

    smallest, largest = "learning rate 0.01 was chosen, the smallest", "learning rate 0.25 was chosen, the largest"
    rows = [
        row("a", 0, "x: 80.00 percent, but 74.00 of {all}", smallest),
        row("a", 1, "x: 81.50 percent, but 74.00 of {all}", largest),
        row("a", 2, state="PENDING"),
        row("b", 0, "x: 79.00 percent, but 74.00 of {all}"),
        row("b", 1, smallest),
        row("c", 0, largest, smaller := "learning rate 0.03 was chosen, the smallest"),
    ]
    assert remarks(rows) == [
        "x: 79.00 to 81.50 percent, but 74.00 of {all} (a, b seed 0)",
        f"{smallest} (a seed 0, b seed 1)",
        f"{largest} (a seed 1, c)",
        f"{smaller} (c)",
    ]
