"""The report of a sweep: what lies in the folder, what an unfinished or damaged sweep gives, and equal bytes."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from fgssl.__main__ import main
from fgssl.encoders.weights import weights_bytes
from fgssl.errors import UserError
from fgssl.registries import Registry
from fgssl.report.figures import FIGURES, draw
from fgssl.report.report import report
from fgssl.settings import config as configs
from fgssl.store.outcomes import Outcomes
from fgssl.store.plan import PlanRecord
from fgssl.store.records import outcomes_file
from tests.report.conftest import SEEDS, Out
from tests.report.figures.conftest import Embedded

CELLS = ("base", "sigma=0.1")


@pytest.fixture(autouse=True)
def _figures() -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra fgssl[report]")
    pytest.importorskip("openTSNE", reason="maps need the extra fgssl[report]")


@pytest.fixture
def embedded(out: Out) -> Embedded:
    return Embedded(out)


@pytest.fixture
def complete(embedded: Embedded) -> Embedded:
    """Return a sweep whose first two cells are done, with features and outcomes of test images."""
    embedded.out.measure((), {}, ["linear_100", "rank1"])
    labels = embedded.images["test"].labels[:, 0]
    for cell in CELLS:
        for seed in SEEDS:
            embedded.finish(cell, seed, noise=0.3 if cell == "base" else 0.2)
            found, random = Outcomes(), np.random.default_rng([seed, cell == "base"])
            wrong = random.random(len(labels)) < (0.5 if cell == "base" else 0.3)
            found.classified("linear_100", np.where(wrong, (labels + 1) % 24, labels), labels)
            config = configs.parse(embedded.out.planned(cell, seed)["config"], "test")
            (embedded.out.folder(cell, seed) / outcomes_file(config)).write_bytes(found.to_bytes())
    return embedded


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the map alone, which saves the time of the other figures."""
    monkeypatch.setattr("fgssl.report.pictures.FIGURES", Registry("test", {"tsne": FIGURES["tsne"]}))


def by_cell(file: Path) -> dict[Any, dict[Any, Any]]:
    return pd.read_csv(file).set_index("cell").to_dict("index")


def no_jobs(plan: PlanRecord, out: Path) -> dict[str, Any]:
    return {}


def text_of(page: Path) -> str:
    return re.sub(r"<script type=\"application/octet-stream\".*?</script>", "", page.read_text(), flags=re.DOTALL)


def test_a_sweep_gives_one_page_figures_and_tables(complete: Embedded) -> None:
    out = complete.out.path
    page = report(out, no_jobs)
    text = text_of(page)
    assert page == out / "report" / "index.html"
    assert "9 runs: 6 done, 3 missing" in text
    assert "3 of 3 seeds" not in text
    for caption in ("linear_100 over test images", "linear_100 by genus", "Noise intensity (ablation_sigma"):
        assert caption in text
    assert 'class="explorer"' in text
    drawn = {file.name for file in (out / "report" / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in ("tsne", "lookalikes", "spectrum") for kind in ("png", "pdf", "svg")} <= drawn
    images = by_cell(out / "report" / "images.csv")
    assert images["sigma=0.1"]["gained"] > images["sigma=0.1"]["lost"]
    assert pd.read_csv(out / "report" / "classes.csv")["level"].unique().tolist() == ["species", "genus"]
    assert (pd.read_csv(out / "report" / "flipped.csv")["cell"] == "sigma=0.1").all()
    assert (out / "table.md").is_file()


@pytest.mark.usefixtures("one_figure")
def test_equal_folders_give_equal_bytes_and_nothing_is_made_twice(complete: Embedded, tmp_path_factory: Any) -> None:
    out = complete.out.path
    copy = tmp_path_factory.mktemp("copy") / "again"
    shutil.copytree(out, copy)
    first, second = report(out, no_jobs), report(copy, no_jobs)
    assert first.read_bytes() == second.read_bytes()
    files = sorted(file.relative_to(out) for file in (out / "report").rglob("*.*") if file.suffix != ".inputs")
    assert [file for file in files if (out / file).read_bytes() != (copy / file).read_bytes()] == []
    written = first.stat().st_mtime_ns
    assert report(out, no_jobs).stat().st_mtime_ns == written
    complete.finish("sigma=0.5", 0)
    assert "7 done" in text_of(report(out, no_jobs))


@pytest.mark.usefixtures("one_figure")
def test_two_sweeps_share_a_page_and_an_embedding(complete: Embedded, tmp_path_factory: Any) -> None:
    out = complete.out.path
    other = tmp_path_factory.mktemp("two") / "other"
    shutil.copytree(out, other)
    page = report(out, no_jobs, other)
    assert page.name == "beside-other.html"
    text = text_of(page)
    assert "18 runs: 12 done, 6 missing" in text
    assert f"{out.name}: Percent" in text
    assert "other: Percent" in text
    assert "other: base, seed 0" in text
    assert text.count('class="explorer"') == 1


@pytest.mark.usefixtures("one_figure")
def test_an_unfinished_sweep_shows_what_is_there(embedded: Embedded) -> None:
    out = embedded.out
    out.fail("base", 1, "Traceback\nRuntimeError: <script>document.title='broken'</script>")
    text = text_of(report(out.path, no_jobs))
    assert "9 runs: 1 failed, 8 missing" in text
    assert "RuntimeError: &lt;script&gt;" in text
    assert "<script>document" not in text
    assert "No interactive embedding: no run of ablation_sigma that is done keeps features" in text
    assert "No tables of test images: no run that is done keeps outcomes" in text
    assert not list((out.path / "report" / "figures").glob("*.p*"))


@pytest.mark.usefixtures("one_figure")
def test_one_seed_and_damaged_records(complete: Embedded, capsys: pytest.CaptureFixture[str]) -> None:
    out = complete.out
    for seed in SEEDS[1:]:
        for cell in CELLS:
            shutil.rmtree(out.folder(cell, seed))
    text = text_of(report(out.path, no_jobs))
    assert "9 runs: 2 done, 7 missing" in text
    (file,) = out.folder("base", 0).glob("evaluation-*.json")
    file.write_text("{")
    (outcomes,) = out.folder("sigma=0.1", 0).glob("outcomes-*.npz")
    outcomes.write_bytes(b"cut")
    (out.folder("sigma=0.1", 0) / "features.safetensors").write_bytes(b"cut")
    text = text_of(report(out.path, no_jobs))
    assert "9 runs: 1 done" in text
    assert "No interactive embedding" in text
    errors = capsys.readouterr().err
    assert f"{file}: cannot be read" in errors
    assert f"{outcomes}: ignored" in errors


@pytest.mark.usefixtures("one_figure")
def test_runs_of_other_data_have_no_common_tables(complete: Embedded) -> None:
    out = complete.out
    out.finish("base", 0, 50.0, data_version="other")
    text = text_of(report(out.path, no_jobs))
    assert "averages runs of different data versions" in text
    images = by_cell(out.path / "report" / "images.csv")
    assert {cell: entry["seeds"] for cell, entry in images.items()} == {"base": 1}


@pytest.mark.usefixtures("one_figure")
def test_the_page_stays_below_its_size(complete: Embedded) -> None:
    out = complete.out.path
    small = report(out, no_jobs, most_megabytes=1.0)
    assert small.stat().st_size <= 1e6
    smaller = report(out, no_jobs, most_megabytes=0.1)
    assert smaller.stat().st_size <= 1e5
    assert "since the page would be too large (--max-megabytes): tsne" in text_of(smaller)
    assert "No interactive embedding: no room is left for it" in text_of(smaller)


@pytest.mark.usefixtures("one_figure")
def test_the_command(complete: Embedded, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["report", str(complete.out.path)]) == 0
    assert capsys.readouterr().out == f"{complete.out.path}/report/index.html\n"
    with pytest.raises(UserError, match="no such folder"):
        report(tmp_path / "none", no_jobs)


@pytest.mark.usefixtures("one_figure")
def test_a_folder_that_cannot_be_written(complete: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    (complete.out.path / "report").write_text("a file in the way")
    with pytest.raises(UserError, match="report: cannot be written"):
        report(complete.out.path, no_jobs)


@pytest.mark.usefixtures("one_figure")
def test_figures_of_an_earlier_state_do_not_stay(complete: Embedded) -> None:
    out = complete.out
    report(out.path, no_jobs)
    assert (out.path / "report" / "figures" / "tsne.png").is_file()
    for cell in CELLS:
        for seed in SEEDS:
            (out.folder(cell, seed) / "features.safetensors").unlink()
    report(out.path, no_jobs)
    assert not (out.path / "report" / "figures" / "tsne.png").exists()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the figures that are drawn."""
    names: list[str] = []

    def note(name: str, *given: Any) -> Any:
        names.append(name)
        return draw(name, *given)

    monkeypatch.setattr("fgssl.report.pictures.draw", note)
    return names


@pytest.mark.usefixtures("one_figure")
def test_only_what_changed_is_drawn_again(
    complete: Embedded, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = complete.out
    report(out.path, no_jobs)
    (out.folder("base", 0) / "progress.json").touch()
    out.fail("sigma=0.5", 0, "RuntimeError: boom")
    assert "1 failed" in text_of(report(out.path, no_jobs))
    report(out.path, no_jobs, most_megabytes=2.0)
    assert drawn == ["tsne"]
    shutil.rmtree(out.path / "report" / "figures")
    report(out.path, no_jobs)
    assert drawn == ["tsne", "tsne"]
    complete.finish("sigma=0.5", 1)
    report(out.path, no_jobs)
    assert len(drawn) == 3
    monkeypatch.setattr("fgssl.report.inputs._libraries", lambda: {"matplotlib": "another"})
    report(out.path, no_jobs)
    assert len(drawn) == 4


@pytest.mark.usefixtures("one_figure")
def test_the_images_may_come_back(complete: Embedded, tmp_path_factory: Any) -> None:
    out, away = complete.out, tmp_path_factory.mktemp("away") / "shards"
    shutil.move(complete.shards, away)
    assert "No interactive embedding" in text_of(report(out.path, no_jobs))
    shutil.move(away, complete.shards)
    assert "No interactive embedding" not in text_of(report(out.path, no_jobs))
    assert (out.path / "report" / "figures" / "tsne.png").is_file()


@pytest.mark.usefixtures("one_figure")
def test_a_fault_in_a_figure_does_not_cost_the_page(
    complete: Embedded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = complete.out.path
    report(out, no_jobs)

    def draw(**_: Any) -> None:
        raise IndexError("index 7")

    monkeypatch.setattr("fgssl.report.figures.tsne.draw", draw)
    complete.finish("sigma=0.5", 0)
    assert "Figure tsne is not drawn: IndexError: index 7" in text_of(report(out, no_jobs))
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert not list((out / "report" / "figures").glob("tsne*"))


def test_notes_name_files_relative_to_the_sweep(complete: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("tsne", "attention")
    monkeypatch.setattr("fgssl.report.pictures.FIGURES", Registry("test", {name: FIGURES[name] for name in names}))
    for cell in CELLS:
        file = complete.out.folder(cell, 0) / "encoder.safetensors"
        file.write_bytes(weights_bytes(nn.Linear(1, 1)))
        for seed in SEEDS:
            complete.finish(cell, seed, {"test": np.full((48, 8), np.nan, np.float32)})
    text = text_of(report(complete.out.path, no_jobs))
    run = complete.out.folder("base", 0).name
    assert f"Figure tsne is not drawn: runs/{run}/features.safetensors holds NaN" in text
    assert f"No interactive embedding: runs/{run}/features.safetensors holds NaN" in text
    assert f"Figure attention is not drawn: runs/{run}/encoder.safetensors: weights of another" in text
    assert str(complete.out.path) not in text


@pytest.mark.usefixtures("one_figure")
def test_few_images_have_a_page_without_maps(complete: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("map", "figures.tsne"):
        monkeypatch.setattr(f"fgssl.report.{module}.FEWEST", 49)
    text = text_of(report(complete.out.path, no_jobs))
    assert "No interactive embedding: a map needs 49 test images or more" in text
    assert "Figure tsne is not drawn: a map needs 49 test images or more" in text
