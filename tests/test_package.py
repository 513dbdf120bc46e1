"""Names and side effects of `import fgssl`, and the example that shows them."""

import dataclasses
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import fgssl
from fgssl.errors import UserError
from fgssl.run.data import open_splits
from fgssl.run.execution import execute
from fgssl.settings.config import Config
from fgssl.store.files import record_json
from fgssl.store.run_folder import RunFolder
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan

ROOT = Path(__file__).parents[1]
Tiny = Callable[..., Config]
UNTRAINED = ("method={name: start_encoder}", "evaluation={linear: null, keep_features: float32}")
SWEEP = """
name: smoke
title: Two encoders
baseline: one
seeds: [0, 1]
settings:
  data: {toy: {image_size: 16, train_images_per_species: 4, test_images_per_species: 2}}
  views: {image_size: 16}
  encoder: {name: resnet18, arguments: {channels: [8, 8, 8, 8], layers: [1, 1, 1, 1]}}
  method: {name: start_encoder}
  evaluation: {linear: null}
  resources: {device: cpu}
arms:
  one: {}
  two: {settings: {encoder: {stem: small_image}}}
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's output folder, in which one run is not done."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.yaml").write_text(SWEEP)
    made, out = plan(expand(folder / "sweep.yaml")), folder / "outputs" / "smoke-demo"
    for run in made.runs[:-1]:
        execute(run.config, out)
    (out / "plan.json").write_text(record_json(made.record()))
    return out


def test_importing_the_package_is_light() -> None:
    code = """
import sys
import fgssl
assert set(fgssl.__all__) <= set(dir(fgssl))
heavy = {"torch", "torchvision", "timm", "pandas", "numpy", "rich", "click"} & set(sys.modules)
assert not heavy, heavy
fgssl.evaluation
assert "torch" not in sys.modules
assert fgssl.losses.supcon.__module__ == "fgssl.losses.supcon"
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fgssl' has no attribute 'load_encodr'"):
        fgssl.load_encodr  # noqa: B018


def test_type_hints_are_shipped() -> None:
    assert (ROOT / "fgssl" / "py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["*"]


@pytest.mark.parametrize("stem", ["standard", "small_image"])
@pytest.mark.parametrize("resize", ["null", "20"])
def test_a_loaded_encoder_gives_the_features_of_the_evaluation(
    stem: str, resize: str, tiny_config: Tiny, tmp_path: Path
) -> None:
    keys = ("encoder.frozen=[all]", "encoder.arguments.stem_type=''", f"encoder.stem={stem}")
    config = tiny_config(*UNTRAINED, *keys, f"views.evaluation_resize={resize}", "views.mean=[0.4, 0.5, 0.6]")
    folder = execute(config, tmp_path)
    encoder = fgssl.load_encoder(str(folder.path))
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert {type(layer) for layer in encoder.modules() if "Norm" in type(layer).__name__} == {torch.nn.BatchNorm2d}
    transform = encoder.transform
    assert (transform.image_size, transform.mean, transform.std) == (16, (0.4, 0.5, 0.6), config.views.std)

    _, test = open_splits(config, tmp_path)
    assert test is not None
    inputs = torch.stack([transform(Image.fromarray(test.pixels(row))) for row in range(len(test))])
    with torch.inference_mode():
        features = encoder(inputs)
    torch.testing.assert_close(features, torch.from_numpy(load_file(folder.features)["test"]))


def test_the_transform_takes_images_of_any_mode(tiny_config: Tiny, tmp_path: Path) -> None:
    transform = fgssl.load_encoder(execute(tiny_config(*UNTRAINED), tmp_path).path).transform
    gray = Image.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30))
    for image in (gray, gray.convert("RGBA"), gray.convert("P")):
        pixels = transform(image)
        assert (pixels.shape, pixels.dtype) == ((3, 16, 16), torch.float32)
        assert torch.equal(pixels, transform(image.convert("RGB")))


def test_a_folder_without_a_trained_encoder_is_refused(tiny_config: Tiny, tmp_path: Path, sweep: Path) -> None:
    with pytest.raises(UserError, match=r"nothing: is no run folder \(config.yaml is missing\)$"):
        fgssl.load_encoder(tmp_path / "nothing")
    with pytest.raises(
        UserError, match=r"an output folder: give one of its runs:\n.*/runs/start_encoder-seed0-"
    ) as refused:
        fgssl.load_encoder(sweep)
    assert str(refused.value).count("\n") == 3
    config = tiny_config(*UNTRAINED)
    begun = RunFolder(tmp_path / "begun")
    with begun.lease(config):
        pass
    with pytest.raises(
        UserError, match=r"begun: its training is not complete: finish it with .* `fgssl train .*config"
    ):
        fgssl.load_encoder(begun.path)
    done = execute(config, tmp_path)
    done.encoder.unlink()
    with pytest.raises(UserError, match=r"holds no encoder: method start_encoder trains none"):
        fgssl.load_encoder(done.path)


def test_rows_are_typed(sweep: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in sweep.rglob("*")}
    rows = fgssl.read_rows(sweep)
    assert rows["cell"].tolist() == ["one", "one", "two", "two"]
    assert rows["seed"].dtype == "int64"
    assert rows["state"].tolist() == ["DONE", "DONE", "DONE", "MISSING"]
    assert {str(rows[name].dtype) for name in ("rank1", "rank5", "mAP", "wall_s")} == {"float64"}
    assert rows["mAP"].isna().tolist() == [False, False, False, True]
    assert all(Path(folder).parent == sweep / "runs" for folder in rows["folder"])
    encoders = [fgssl.load_encoder(folder) for folder in rows["folder"][:3]]
    assert isinstance(encoders[2].maxpool, torch.nn.Identity)
    assert {file: file.stat().st_mtime_ns for file in sweep.rglob("*")} == before


def test_the_table_is_that_of_table_csv(sweep: Path) -> None:
    table = fgssl.read_table(str(sweep))
    rows = fgssl.read_rows(sweep)
    of_one = table[(table["cell"] == "one") & (table["metric"] == "mAP")]
    assert of_one["mean"].item() == rows.loc[rows["cell"] == "one", "mAP"].mean()
    assert table.loc[table["cell"] == "two", "missing"].tolist() == [1, 1, 1]
    assert isinstance(table, pd.DataFrame)
    assert not (sweep / "table.csv").exists()
    with pytest.raises(UserError, match=r"holds no sweep \(plan.json is missing\): give the output folder"):
        fgssl.read_table(sweep / "runs")


def test_the_example_runs(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(sweep.parents[1])
    made = runpy.run_path(str(ROOT / "docs" / "examples" / "notebook.py"))
    assert made["features"].shape == (64, 8)
    assert "rank1" in capsys.readouterr().out
    assert dataclasses.is_dataclass(made["encoder"].transform)
