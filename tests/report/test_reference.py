"""Published numbers in sweeps/reference."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest

from fgssl.errors import UserError
from fgssl.report.reference import published, reference_values
from fgssl.report.rows import collect_rows
from fgssl.report.tables import tabulate
from fgssl.store.plan import read_plan

FOLDER = Path(__file__).parents[2] / "sweeps" / "reference"


def test_a_table_with_a_dataset_column() -> None:
    assert reference_values("table1_main", "cub200", {"method": "mocov2"}, FOLDER) == {
        **{"linear_100": 63.98, "linear_50": 56.35, "linear_20": 42.63},
        **{"rank1": 39.72, "rank5": 67.14, "mAP": 15.91},
    }


def test_a_table_with_a_column_for_each_dataset() -> None:
    values = reference_values("table4_noises", "cars", {"method": "ours_lowvar"}, FOLDER)
    assert values == {"linear_100": 64.34, "rank1": 34.55}
    assert reference_values("table8_random", "cars", {"method": "ours_random"}, FOLDER) == {"linear_100": 61.84}


@pytest.mark.parametrize(("weight", "expected"), [(0, 64.33), (0.1, 65.67), (0.5, 66.17), ("1.0", 65.82)])
def test_numbers_match_by_value(weight: float, expected: float) -> None:
    assert reference_values("table6_pair_weight", "cub200", {"pair_weight": weight}, FOLDER) == {"linear_100": expected}


def test_infinity_matches() -> None:
    assert reference_values("table7_tau", "cub200", {"tau": float("inf")}, FOLDER) == {"linear_100": 66.05}


def test_nothing_published_gives_nothing() -> None:
    assert reference_values("table6_pair_weight", "toy", {"pair_weight": 0.5}, FOLDER) == {}
    assert reference_values("table4_noises", "toy", {"method": "ours"}, FOLDER) == {}
    assert reference_values("table6_pair_weight", "cub200", {"pair_weight": 0.3}, FOLDER) == {}
    assert reference_values("table7_tau", "cub200", {"tau": {"quantile": 0.5}}, FOLDER) == {}
    assert reference_values("table7_tau", "cub200", {"tau": None}, FOLDER) == {}
    # An empty field is no number.
    assert reference_values("table3_sota", "cars", {"method": "dilo"}, FOLDER) == {}


@pytest.mark.parametrize("size", [0, 3, 12, 20, 24, 30])
def test_a_table_that_was_cut_is_named(size: int, tmp_path: Path) -> None:
    file = tmp_path / "cut.csv"
    file.write_bytes(b"method,linear_cub200,rank1_cub200\nmocov2,1,2\n"[:size] + b"\nb\xff" * (size == 30))
    with pytest.raises(UserError, match=re.escape(f"{file}: ")):
        reference_values("cut", "cub200", {"method": "mocov2"}, tmp_path)


def test_outliers_are_a_measure_of_their_level_and_their_decrease_is_none() -> None:
    match = {"level": "genus", "loss": "supcon"}
    assert reference_values("hcl_outliers", "df20mini", match, FOLDER) == {"outliers_genus": 423.0}
    assert reference_values("hcl_outliers", "df20mini", {"loss": "hcl"}, FOLDER) == {"outliers_genus": 201.0}
    assert reference_values("hcl_outliers", "gtsrb", match, FOLDER) == {}


def tabulated(out: Any) -> dict[tuple[str, str], dict[Hashable, Any]]:
    """Return the aggregated table of `out`, by cell and metric."""
    plan = read_plan(out.path)
    entries = tabulate(collect_rows(plan, out.path), plan).to_dict("records")
    return {(entry["cell"], entry["metric"]): entry for entry in entries}


def test_the_published_decreases(out: Any) -> None:
    """By the aggregator, from the published numbers of outliers."""
    lines = {line["loss"]: line for line in published(FOLDER / "hcl_outliers.csv").lines}
    outliers = {
        loss: reference_values("hcl_outliers", "df20mini", {"level": "genus", "loss": loss}, FOLDER)["outliers_genus"]
        for loss in lines
    }
    assert outliers == {"cross_entropy": 725, "supcon": 423, "hcl": 201}
    cells = {"cross_entropy": "base", "supcon": "sigma=0.1", "hcl": "sigma=0.5"}
    out.measure(cells.values(), {"outliers": {"levels": {"genus": 1}}}, ["outliers_genus"])
    for loss, cell in cells.items():
        out.measured = {"outliers_genus": outliers[loss]}
        out.finish(cell, 0)
    table = tabulated(out)
    for loss, decrease in (("supcon", 41.7), ("hcl", 72.3)):
        recomputed = table[cells[loss], "outliers_genus"]["decrease_percent"]
        assert round(recomputed, 1) == decrease == float(lines[loss]["decrease_percent"])


def test_errors_name_what_there_is() -> None:
    with pytest.raises(UserError, match="unknown table 'table7_taus': did you mean 'table7_tau'"):
        reference_values("table7_taus", "cub200", {}, FOLDER)
    with pytest.raises(UserError, match="unknown column 'pair_wait': did you mean 'pair_weight'"):
        reference_values("table6_pair_weight", "cub200", {"pair_wait": 0.5}, FOLDER)
    with pytest.raises(UserError, match="fits 5 lines: match more of tau, linear_100"):
        reference_values("table7_tau", "cub200", {}, FOLDER)


def test_datasets_of_both_forms() -> None:
    assert published(FOLDER / "table1_main.csv").datasets == ["cub200", "cars", "aircraft"]
    assert published(FOLDER / "table3_sota.csv").datasets == ["cub200", "cars", "aircraft"]


def test_the_published_mean_gains(out: Any) -> None:
    """By the aggregator, from the published rows, the three datasets in the place of seeds."""
    cells = {"mocov2": "base", "ours": "sigma=0.5"}
    for method, cell in cells.items():
        for seed, dataset in enumerate(("cub200", "cars", "aircraft")):
            out.measured = reference_values("table1_main", dataset, {"method": method}, FOLDER)
            out.finish(cell, seed)
    table = tabulated(out)
    for measure, gain in (("linear_100", 3.31), ("linear_50", 4.27), ("linear_20", 5.51)):
        found = table[cells["ours"], measure]
        assert (found["delta_n"], round(found["delta_baseline"], 2)) == (3, gain)


def test_tables_agree_where_they_repeat_a_number() -> None:
    for dataset in ("cub200", "cars", "aircraft"):
        for method in ("mocov2", "ours"):
            main = reference_values("table1_main", dataset, {"method": method}, FOLDER)
            for table in ("table3_sota", "table4_noises", "table8_random"):
                values = reference_values(table, dataset, {"method": method}, FOLDER)
                assert values
                assert all(main[measure] == value for measure, value in values.items())
