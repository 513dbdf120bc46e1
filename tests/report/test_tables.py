"""table.csv and its readable forms, with numbers computed by hand."""

import csv
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fgssl.errors import UserError
from fgssl.report.latex import latex
from fgssl.report.layout import Layout, lay_out
from fgssl.report.markdown import markdown
from fgssl.report.rows import collect_rows
from fgssl.report.statistics import equivalence, smallest_difference
from fgssl.report.tables import COLUMNS, tabulate, write_table
from fgssl.store.plan import read_plan

Finished = Callable[[dict[str, list[float | None]]], Any]


def table_of(out: Any) -> pd.DataFrame:
    plan = read_plan(out.path)
    return tabulate(collect_rows(plan, out.path), plan)


def layout_of(out: Any) -> Layout:
    plan = read_plan(out.path)
    rows = collect_rows(plan, out.path)
    return lay_out(tabulate(rows, plan), rows, plan)


def entry(table: pd.DataFrame, cell: str, metric: str = "linear_100") -> dict[str, Any]:
    (found,) = table[(table["cell"] == cell) & (table["metric"] == metric)].to_dict("records")
    return {str(key): value for key, value in found.items()}


def test_complete_cells(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.1": [51.0, 55.0, 56.0], "sigma=0.5": [60.0, 60.0, 60.0]})
    table = table_of(out)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 3 * 6
    base, low, high = (entry(table, cell) for cell in ("base", "sigma=0.1", "sigma=0.5"))
    assert base["mean"] == 53.0
    assert base["std"] == pytest.approx(math.sqrt((9 + 1 + 16) / 2))  # ddof 1
    assert (base["n"], base["missing"], base["states"]) == (3, 0, "3 DONE")
    assert math.isnan(base["delta_baseline"])
    assert base["delta_n"] == 0
    # By seed: 1, 3, -1.
    assert (low["mean"], low["delta_baseline"], low["delta_std"], low["delta_n"]) == (54.0, 1.0, 2.0, 3)
    assert (high["std"], high["delta_baseline"]) == (0.0, 7.0)
    assert math.isnan(low["reference"])
    assert math.isnan(low["delta_reference"])


def test_differences_are_paired_over_seeds_that_both_have(finished: Finished) -> None:
    out = finished({"base": [50.0, None, 57.0], "sigma=0.1": [51.0, 99.0, None], "sigma=0.5": [None, 80.0, None]})
    out.fail("base", 1, "RuntimeError: boom")
    table = table_of(out)
    base, low, high = (entry(table, cell) for cell in ("base", "sigma=0.1", "sigma=0.5"))
    assert (base["mean"], base["n"], base["missing"]) == (53.5, 2, 1)
    assert base["states"] == "2 DONE, 1 FAILED"
    assert (low["mean"], low["n"], low["states"]) == (75.0, 2, "2 DONE, 1 MISSING")
    assert (low["delta_baseline"], low["delta_n"]) == (1.0, 1)  # seed 0 alone, not 75 - 53.5
    assert math.isnan(low["delta_std"])
    assert (high["mean"], high["n"], high["missing"], high["delta_n"]) == (80.0, 1, 2, 0)
    assert math.isnan(high["std"])  # no spread of one value
    assert math.isnan(high["delta_baseline"])


def test_all_runs_missing(out: Any) -> None:
    table = table_of(out)
    assert table["mean"].isna().all()
    assert table["delta_baseline"].isna().all()
    assert set(table["n"]) == {0}
    assert set(table["missing"]) == {3}
    assert set(table["states"]) == {"3 MISSING"}
    text = markdown(layout_of(out))
    assert "| sigma=0.1 |        – † |" in text
    assert "- † base: 0 of 3 seeds: seed 0 MISSING: waits for stage pretrain of seed 0" in text


def test_reference(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.5": [60.0, None, None]})
    out.content["reference"] = {"base": {"linear_100": 63.98}, "sigma=0.1": {"linear_100": 64.25, "rank1": 40.0}}
    out.write_plan()
    table = table_of(out)
    assert entry(table, "base")["reference"] == 63.98
    assert entry(table, "base")["delta_reference"] == 53.0 - 63.98
    assert math.isnan(entry(table, "base", "rank1")["reference"])
    assert entry(table, "sigma=0.1")["reference"] == 64.25
    assert math.isnan(entry(table, "sigma=0.1")["delta_reference"])
    layout = layout_of(out)
    assert layout.blocks[2].lines == [
        ["base", "63.98 (-10.98) ‡", "–", "–", "–", "–", "–"],
        ["sigma=0.1", "64.25 (–) ‡", "–", "–", "40.00 (–)", "–", "–"],
    ]
    assert [note for note in layout.notes if "measured here with recipe: scaled" in note]


def test_published_values_of_the_same_protocol_have_no_mark(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0]})
    out.measure(
        ["base", "sigma=0.1", "sigma=0.5"], {"linear": {"recipe": "fixed", "learning_rates": [30.0]}}, ["linear_100"]
    )
    out.content["reference"] = {"base": {"linear_100": 63.98}}
    out.write_plan()
    layout = layout_of(out)
    assert layout.blocks[-1].lines == [["base", "63.98 (–)"]]
    assert not [note for note in layout.notes if "‡" in note]


def test_tests_of_the_primary_measure(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.1": [51.0, 55.0, 56.0], "sigma=0.5": [60.0, 62.3, 66.8]})
    out.content |= {"primary": "linear_100", "equivalent_within": 5.0}
    out.write_plan()
    table = table_of(out)
    base, low, high = (entry(table, cell) for cell in ("base", "sigma=0.1", "sigma=0.5"))
    theirs = stats.ttest_rel([60.0, 62.3, 66.8], [50.0, 52.0, 57.0])
    assert high["p"] == pytest.approx(theirs.pvalue)
    assert high["p_holm"] == pytest.approx(2 * high["p"])
    interval = theirs.confidence_interval()
    assert (high["delta_low"], high["delta_high"]) == pytest.approx((interval.low, interval.high))
    assert (low["p_holm"], low["wins"], high["wins"]) == (low["p"], 2, 3)  # the larger p value is compared once
    assert low["smallest_difference"] == pytest.approx(smallest_difference(2.0, 3, comparisons=2))
    assert low["p_equivalent"] == pytest.approx(equivalence([1.0, 3.0, -1.0], 5.0))
    assert all(math.isnan(base[name]) for name in ("p", "p_holm", "p_equivalent", "delta_low"))
    assert math.isnan(entry(table, "sigma=0.5", "rank1")["p_holm"])
    assert (high["family"], entry(table, "sigma=0.5", "rank1")["family"]) == ("primary", "exploratory")
    measured, tested = layout_of(out).blocks[:2]
    assert (measured.bold, measured.underlined) == ({(2, 1)}, {(1, 1)})
    assert tested.lines[1][:6] == ["sigma=0.5", "+10.03 ± 0.25", "+9.41 to +10.66", "<0.001", "<0.001", "3 of 3"]
    assert r"& \textbf{63.03 $\pm$ 3.46}" in latex(layout_of(out))
    assert "**63.03 ± 3.46**" in markdown(layout_of(out))
    ends = sorted([low["smallest_difference"], high["smallest_difference"]])
    could_show = (
        "- could show: smallest difference of linear_100 that as many pairs would find with a chance of 80 %, here"
    )
    assert f"\n{could_show} {ends[0]:.2f} to {ends[1]:.2f}\n" in markdown(layout_of(out))


def test_a_best_mean_that_no_test_carries_is_not_bold(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.1": [51.0, 55.0, 56.0], "sigma=0.5": [40.0, 42.3, 46.8]})
    out.content["primary"] = "linear_100"
    out.write_plan()
    measured = layout_of(out).blocks[0]
    assert entry(table_of(out), "sigma=0.5")["p_holm"] < 0.001  # worse than the baseline
    assert (measured.bold, measured.underlined) == (set(), {(0, 1), (1, 1)})


def test_without_a_baseline_there_are_no_differences(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0], "sigma=0.1": [51.0, 55.0, 56.0]})
    out.content["baseline"] = None
    out.write_plan()
    assert table_of(out)["delta_baseline"].isna().all()
    assert len(layout_of(out).blocks) == 1


def test_a_measure_that_a_finished_run_lacks_is_missing(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0]})
    out.finish("base", 1, None)  # as if its evaluation had left the measure out
    base = entry(table_of(out), "base")
    assert (base["mean"], base["n"], base["missing"], base["states"]) == (53.5, 2, 1, "3 DONE")
    assert "† base: 2 of 3 seeds: seed 1 DONE, but without linear_100" in layout_of(out).notes


def test_only_done_rows_count(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0]})
    plan = read_plan(out.path)
    rows = collect_rows(plan, out.path)
    rows[1]["state"] = "RUNNING"  # though it holds a value
    base = entry(tabulate(rows, plan), "base")
    assert (base["mean"], base["n"], base["states"]) == (53.5, 2, "2 DONE, 1 RUNNING")


def test_only_the_plans_metrics_and_no_unknown_one(finished: Finished) -> None:
    out = finished({"base": [50.0, 52.0, 57.0]})
    out.content["metrics"] = ["mAP", "linear_100"]
    out.write_plan()
    assert table_of(out)["metric"].tolist() == ["mAP", "linear_100"] * 3
    out.content["metrics"] = ["linear_10"]
    out.write_plan()
    with pytest.raises(UserError, match="measures linear_10: choose among linear_100, linear_50, linear_20, "):
        table_of(out)


def test_csv_holds_every_digit(finished: Finished) -> None:
    out = finished({"base": [100 / 3, 52.1, 57.3], "sigma=0.1": [100 / 7, 55.0, None]})
    table = table_of(out)
    write_table(table, out.path / "table.csv")
    with (out.path / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["states"] for line in lines] == table["states"].tolist()
    for column in ("mean", "std", "delta_baseline"):
        back = [float(line[column] or "nan") for line in lines]
        np.testing.assert_array_equal(back, table[column])


def test_readable_table(finished: Finished) -> None:
    out = finished({"base": [50.0, None, 57.0], "sigma=0.1": [51.0, 99.0, 60.0], "sigma=0.5": [None, 80.0, None]})
    out.content["metrics"] = ["linear_100", "rank1"]
    out.write_plan()
    for seed in (0, 1, 2):
        out.finish("pretrain", seed)
    out.fail("base", 1, "Traceback\nRuntimeError: boom | bang")
    assert markdown(layout_of(out)) == (
        "# Noise intensity (ablation_sigma, preset demo)\n"
        "\n"
        "Percent, mean ± standard deviation over the seeds; dataset toy:\n"
        "\n"
        "| cell      |      linear_100 |         rank1 | seeds |\n"
        "| --------- | --------------: | ------------: | ----: |\n"
        "| base      |  53.50 ± 4.95 † | 0.00 ± 0.00 † |   2/3 |\n"
        "| sigma=0.1 | _70.00 ± 25.51_ |   0.00 ± 0.00 |   3/3 |\n"
        "| sigma=0.5 |       _80.00 †_ |        0.00 † |   1/3 |\n"
        "\n"
        "Difference from base (cell minus baseline), paired by seed:\n"
        "\n"
        "| cell      |             linear_100 |                  rank1 |\n"
        "| --------- | ---------------------: | ---------------------: |\n"
        "| sigma=0.1 | +2.00 ± 1.41 (n = 2) † | +0.00 ± 0.00 (n = 2) † |\n"
        "| sigma=0.5 |                    – † |                    – † |\n"
        "\n"
        "- underlined: best and second best means\n"
        "- † base: 2 of 3 seeds: seed 1 FAILED: RuntimeError: boom \\| bang\n"
        "- † sigma=0.5: 1 of 3 seeds: seeds 0, 2 MISSING: not run yet\n"
    )


def test_latex_escapes_and_sets_one_line_a_cell(finished: Finished) -> None:
    out = finished({"base": [50.0, None, 57.0]})
    out.content["title"] = "50 % of σ_G & {more}"
    out.write_plan()
    text = latex(layout_of(out))
    assert r"\caption{50 \% of $\sigma$\_G \& \{more\} (ablation\_sigma, preset demo)}" in text
    assert r"base & 53.50 $\pm$ 4.95 \dag{} & 0.00 $\pm$ 0.00 \dag{}" in text
    assert text.count(r"\begin{tabular}{lrrrrrrr}") == 1
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.isascii()


def test_no_number_is_minus_zero(finished: Finished) -> None:
    out = finished({"base": [50.0, 51.0, 52.0], "sigma=0.1": [49.999, 51.0, 52.0]})
    for text in (markdown(layout_of(out)), latex(layout_of(out))):
        assert "-0.00" not in text
        assert "+0.00" in text


def test_mean_and_deviations_against_numpy(finished: Finished) -> None:
    random = np.random.default_rng(0)
    values = {cell: random.uniform(0, 100, 3).tolist() for cell in ("base", "sigma=0.1", "sigma=0.5")}
    table = table_of(finished(values))
    for cell, numbers in values.items():
        assert entry(table, cell)["mean"] == pytest.approx(np.mean(numbers))
        assert entry(table, cell)["std"] == pytest.approx(np.std(numbers, ddof=1))
        if cell != "base":
            differences = np.subtract(numbers, values["base"])
            assert entry(table, cell)["delta_std"] == pytest.approx(np.std(differences, ddof=1))


# ------------------------------------------------------------------------------------- kinds of measures


def finish(out: Any, values: dict[str, dict[str, list[float | None]]]) -> None:
    """Write runs of {cell: {measure: values by seed}}; None is a run that is missing."""
    for cell, by_measure in values.items():
        for seed in (0, 1, 2):
            of_seed = {name: numbers[seed] for name, numbers in by_measure.items()}
            if None not in of_seed.values():
                out.measured = of_seed
                out.finish(cell, seed)


OUTLIERS = {"outliers": {"levels": {"genus": 1}}}


def test_the_decrease_of_counts_is_relative_and_paired(out: Any) -> None:
    out.measure(["base", "sigma=0.1", "sigma=0.5"], OUTLIERS, ["linear_100", "outliers_genus"])
    numbers: dict[str, list[float | None]] = {
        **{"base": [725.0, 100.0, 50.0], "sigma=0.1": [423.0, 80.0, 60.0], "sigma=0.5": [201.0, None, None]}
    }
    finish(out, {cell: {"linear_100": [1.0] * 3, "outliers_genus": by_seed} for cell, by_seed in numbers.items()})
    table = table_of(out)
    base, low, high = (entry(table, cell, "outliers_genus") for cell in ("base", "sigma=0.1", "sigma=0.5"))
    decreases = [100 * (725 - 423) / 725, 20.0, -20.0]
    assert low["decrease_percent"] == pytest.approx(np.mean(decreases))
    assert low["decrease_std"] == pytest.approx(np.std(decreases, ddof=1))
    assert round(high["decrease_percent"], 1) == 72.3
    assert math.isnan(high["decrease_std"])
    assert (low["delta_baseline"], high["delta_n"]) == (pytest.approx((-302 - 20 + 10) / 3), 1)
    assert math.isnan(base["decrease_percent"])
    assert math.isnan(entry(table, "sigma=0.1")["decrease_percent"])  # linear_100 is no count
    layout = layout_of(out)
    decrease = layout.blocks[2]
    assert decrease.caption == "Decrease relative to base, percent, paired by seed"
    assert decrease.header == ["cell", "outliers_genus"]
    assert decrease.lines == [["sigma=0.1", "13.9 ± 31.3"], ["sigma=0.5", "72.3 (n = 1) †"]]
    assert r"\medskip Decrease relative to base, percent, paired by seed:" in latex(layout)
    assert latex(layout).isascii()


def test_a_decrease_to_nothing_is_empty(out: Any) -> None:
    out.measure(["base", "sigma=0.1"], OUTLIERS, ["linear_100", "outliers_genus"])
    finish(out, {"base": {"outliers_genus": [0.0, 10.0, 10.0]}, "sigma=0.1": {"outliers_genus": [0.0, 5.0, 5.0]}})
    found = entry(table_of(out), "sigma=0.1", "outliers_genus")
    assert (found["delta_baseline"], found["delta_n"]) == (pytest.approx(-10 / 3), 3)
    assert math.isnan(found["decrease_percent"])
    assert math.isnan(found["decrease_std"])
    assert layout_of(out).blocks[2].lines[0] == ["sigma=0.1", "–"]


def test_units_are_told_where_not_all_is_percent(out: Any) -> None:
    settings = OUTLIERS | {"nuisances": {"light": ["brightness"]}, "collapse": True}
    metrics = ["linear_100", "rank1", "outliers_genus", "nuisance_light", "feature_std", "effective_rank"]
    out.measure(["base", "sigma=0.1", "sigma=0.5"], settings, metrics)
    values = dict(zip(metrics, [50.0, 40.0, 7.0, 12.5, 0.875, 31.25], strict=True))
    finish(out, {"base": {name: [value] * 3 for name, value in values.items()}})
    layout = layout_of(out)
    assert layout.blocks[0].caption == "Mean ± standard deviation over the seeds; dataset toy"
    assert layout.blocks[0].lines[0] == [
        *("base", "50.00 ± 0.00", "40.00 ± 0.00", "7.0 ± 0.0", "12.50 ± 0.00", "0.88 ± 0.00", "31.25 ± 0.00", "3/3")
    ]
    assert [note.split(":")[0] for note in layout.notes[:5]] == [
        *("linear_100, rank1", "outliers_genus", "nuisance_light", "feature_std", "effective_rank")
    ]
    assert layout.notes[0] == "linear_100, rank1: percent"
    directions = [note.endswith("; lower is better") for note in layout.notes[1:5]]
    columns = read_plan(out.path).columns
    assert directions == [columns[metric].lower_is_better for metric in metrics[2:]] == [True, True, False, False]
    found = entry(table_of(out), "base", "outliers_genus")
    assert (found["unit"], found["lower_is_better"]) == ("count", True)
    assert layout.notes[1] == f"outliers_genus: {found['note']}; lower is better"


def test_nuisances_alone_are_percent_and_their_direction_is_told(out: Any) -> None:
    metrics = ["linear_100", "nuisance_light"]
    out.measure(["base"], {"nuisances": {"light": ["brightness"]}}, metrics)
    layout = layout_of(out)
    assert layout.blocks[0].caption.startswith("Percent, mean")
    assert layout.notes[0].startswith("nuisance_light: percent of the attributes' variance")


def test_a_measure_that_only_some_cells_ask_for_is_not_missing_in_the_others(out: Any) -> None:
    out.measure(["base"], {"knn": {}, **OUTLIERS}, ["linear_100", "knn", "outliers_genus"])
    numbers: dict[str, list[float | None]] = {"linear_100": [50.0, 51.0, 52.0]}
    finish(out, {"base": numbers | {"knn": [60.0] * 3, "outliers_genus": [9.0] * 3}, "sigma=0.1": numbers})
    finish(out, {"sigma=0.5": {"linear_100": [50.0, 51.0, None]}})
    table = table_of(out)
    absent = entry(table, "sigma=0.1", "knn")
    assert (absent["n"], absent["missing"], absent["delta_n"], absent["states"]) == (0, 0, 0, "3 DONE")
    assert math.isnan(absent["mean"])
    assert (entry(table, "base", "knn")["n"], entry(table, "sigma=0.5")["missing"]) == (3, 1)
    layout = layout_of(out)
    assert layout.blocks[0].lines == [
        ["base", "51.00 ± 1.00", "60.00 ± 0.00", "9.0 ± 0.0", "3/3"],
        ["sigma=0.1", "51.00 ± 1.00", "–", "–", "3/3"],
        ["sigma=0.5", "50.50 ± 0.71 †", "–", "–", "2/3"],
    ]
    assert layout.blocks[1].lines[0] == ["sigma=0.1", "+0.00 ± 0.00", "–", "–"]
    assert layout.blocks[2].lines == [["sigma=0.1", "–"], ["sigma=0.5", "–"]]
    assert [note for note in layout.notes if note.startswith("†")] == [
        "† sigma=0.5: 2 of 3 seeds: seed 2 MISSING: waits for stage pretrain of seed 2, MISSING: not run yet"
    ]


def test_a_measure_that_the_baseline_does_not_ask_for_has_no_difference(out: Any) -> None:
    out.measure(["sigma=0.1"], OUTLIERS, ["linear_100", "outliers_genus"])
    finish(
        out, {"base": {"linear_100": [1.0] * 3}, "sigma=0.1": {"linear_100": [2.0] * 3, "outliers_genus": [3.0] * 3}}
    )
    layout = layout_of(out)
    assert layout.blocks[1].lines[0] == ["sigma=0.1", "+1.00 ± 0.00", "–"]
    assert len(layout.blocks) == 2  # nothing to take a decrease from
    assert not any("†" in note and "sigma=0.1" in note for note in layout.notes)
