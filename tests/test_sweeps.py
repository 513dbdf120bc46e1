"""Every file in `sweeps/` under every preset: it expands, validates and plans, without torch."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fgssl.__main__ import invoke
from fgssl.data.location import shards_folder
from fgssl.errors import UserError
from fgssl.settings.methods import MoCoV2Settings, SynthesizedSettings
from hpc.sweeps.grid import Grid, expand
from hpc.sweeps.plan import plan
from hpc.sweeps.sweep_file import preset_names

ON_TRAFFIC_SIGNS = ("ablation_sigma", "noises", "sota", "small_sets", "hcl_outliers", "hcl_lambda")
SWEEPS = Path(__file__).parent.parent / "sweeps"
FILES = sorted(SWEEPS.glob("*.yaml"))
CASES = [(file, preset) for file in FILES for preset in preset_names(file)]
EXPAND = """
import sys
from pathlib import Path
from hpc.sweeps.grid import expand
from hpc.sweeps.plan import plan
import fgssl.commands.sweep
for file, preset in zip(sys.argv[1::2], sys.argv[2::2]):
    plan(expand(Path(file), preset)).record()
heavy = {"torch", "torchvision", "timm", "accelerate", "pandas", "h5py"} & set(sys.modules)
assert not heavy, heavy
"""


def _grid(name: str, preset: str, *overrides: str) -> Grid:
    return expand(SWEEPS / f"{name}.yaml", preset, overrides)


def _grids(grid: Grid) -> dict[str, list[object]]:
    """Return {arm: values of its only grid key}."""
    return {
        cell.arm: [value for other in grid.cells if other.arm == cell.arm for value in other.grid.values()]
        for cell in grid.cells
    }


def test_the_sweeps_that_are_promised_are_there():
    names = {file.stem for file in FILES}
    assert names == {
        "smoke", "ablation_sigma", "ablation_lambda", "ablation_tau", "ablation_reconstruction", "noises", "main",
        "sota", "small_sets", "general_sets", "hcl_outliers", "hcl_lambda", "n_pairs_cifar10",
    }  # fmt: skip
    assert {file.stem for file in FILES if "gtsrb" in preset_names(file)} == set(ON_TRAFFIC_SIGNS)
    assert all(len(preset_names(file)) > 1 for file in FILES)


@pytest.mark.parametrize(("file", "preset"), CASES, ids=[f"{file.stem}-{preset}" for file, preset in CASES])
def test_expands_and_plans(file, preset):
    grid = expand(file, preset)
    record = plan(grid).record()
    assert grid.settings.name == file.stem
    assert grid.settings.baseline in {cell.cell for cell in record.cells}
    assert grid.settings.seeds == ((0,) if file.stem == "smoke" else (0, 1, 2))
    assert expand(file).preset == "demo"
    assert len(file.read_text().splitlines()) <= (155 if file.stem == "sota" else 55)  # a screen; sota has 18 arms
    assert file.read_text().startswith("#")
    starts_from_a_file = any(cell.config.start.encoder and cell.config.start.encoder.file for cell in grid.cells)
    assert starts_from_a_file != (preset in ("demo", "gtsrb", "cifar10"))
    assert ("decoder" in {stage.stage for stage in record.stages}) == any(
        isinstance(cell.config.method, SynthesizedSettings) for cell in grid.cells
    )


def test_planning_imports_neither_torch_nor_pandas_nor_h5py():
    cases = [argument for file, preset in CASES for argument in (str(file), preset)]
    subprocess.run([sys.executable, "-c", EXPAND, *cases], check=True)


def test_the_paper_ablates_what_the_paper_ablates():
    sigmas = [0.1, 0.25, 0.5, 1.0, 2.0]
    assert _grids(_grid("ablation_sigma", "paper")) == {"mocov2": [], "grad_cam": sigmas, "low_variance": sigmas}
    assert _grids(_grid("ablation_lambda", "paper"))["synthesized"] == [0.0, 0.1, 0.5, 1.0]
    assert _grids(_grid("ablation_tau", "paper"))["both"] == [0.0, 0.01, 0.02, 0.05, float("inf")]
    assert _grids(_grid("ablation_reconstruction", "paper"))["reconstruction"] == [0.1, 0.5, 1.0]


def test_the_paper_preset_is_the_papers():
    config = _grid("main", "paper").cells[-1].config
    method, training = config.method, config.training
    assert isinstance(method, SynthesizedSettings)
    assert isinstance(method.base, MoCoV2Settings)
    assert config.decoder is not None
    assert config.evaluation is not None
    assert config.evaluation.linear is not None
    assert (method.base.queue_size, method.base.momentum, method.base.temperature) == (65536, 0.999, 0.2)
    assert (method.pair_weight, method.reconstruction_weight, method.noise.threshold) == (0.5, 0.5, 0.02)
    assert (training.global_batch_size, training.epochs, training.optimizer.learning_rate) == (128, 100, 0.03)
    assert (config.encoder.name, config.decoder.name, config.views.image_size) == ("resnet50", "mirrored_resnet50", 224)
    assert (config.evaluation.linear.recipe, config.evaluation.linear.learning_rates) == ("fixed", (30.0,))
    decoder = _grid("main", "paper").stages["decoder"]
    assert (decoder.training.epochs, decoder.training.optimizer.name) == (200, "adam")


def test_references_stand_beside_the_published_dataset_only():
    published = plan(_grid("noises", "paper")).record().reference
    assert {cell: values["linear_100"] for cell, values in published.items()} == {
        "mocov2": 63.98,
        "random": 64.12,
        "grad_cam": 66.04,
        "low_variance": 65.91,
        "both": 66.17,
    }
    assert plan(_grid("main", "paper", "data.dataset=aircraft")).record().reference["synthesized"]["mAP"] == 12.69
    assert plan(_grid("ablation_tau", "paper")).record().reference["both threshold=inf"] == {"linear_100": 66.05}
    assert len(plan(_grid("ablation_lambda", "paper")).record().reference) == 5
    for file in FILES:
        assert plan(expand(file, "demo")).record().reference == {}


def test_the_demo_needs_no_file_and_has_twelve_runs():
    grid = _grid("ablation_sigma", "demo")
    made = plan(grid)
    assert len(grid.cells) * len(grid.settings.seeds) >= 12
    assert {run.config.data.folder for run in made.runs} == {None}
    assert all(run.config.start.encoder is None or run.config.start.encoder.run for run in made.runs)
    assert shards_folder(made.runs[0].config.data, Path("out")).parent == Path("out")


def test_traffic_signs_are_not_flipped_anywhere():
    for name in ON_TRAFFIC_SIGNS:
        assert not any(run.config.views.horizontal_flip for run in plan(_grid(name, "gtsrb")).runs)


def test_two_stages_of_contrastive_training_share_what_they_share():
    """n-pairs, a classifier on its frozen encoder, then all of both: the second is a row and the third's start."""
    made = plan(_grid("n_pairs_cifar10", "cifar10"))
    assert len(made.runs) == 4 * 3
    by_cell = {cell: made.of_cell[cell, 0] for cell in ("cross_entropy", "two_stage", "fine_tuned")}
    two_stage, fine_tuned = by_cell["two_stage"], by_cell["fine_tuned"]
    assert two_stage.config.encoder.frozen == ("all",)
    assert fine_tuned.config.encoder.frozen == by_cell["cross_entropy"].config.encoder.frozen == ()
    assert (*two_stage.needs, two_stage.run) == fine_tuned.needs
    assert by_cell["cross_entropy"].needs == ()


def test_all_losses_are_fine_tuned_from_one_start():
    made = plan(_grid("hcl_outliers", "gtsrb"))
    for seed in (0, 1, 2):
        assert len({made.of_cell[cell.name, seed].needs for cell in made.grid.cells if not cell.sanity}) == 1
    configs = [cell.config for cell in made.grid.cells]
    assert {config.training.images_per_class for config in configs} == {4}
    pretrain = next(run for run in made.runs if run.stage == "pretrain")
    assert pretrain.config.training.images_per_class is None  # it sees no labels


def test_hcl_stands_beside_its_published_outliers():
    reference = plan(_grid("hcl_outliers", "vit")).record().reference
    assert {cell: values["outliers_genus"] for cell, values in reference.items()} == {
        "cross_entropy": 725, "supcon": 423, "hcl": 201
    }  # fmt: skip
    swin = {cell.config.encoder.name for cell in _grid("hcl_outliers", "swin").cells}
    assert swin == {"swin_tiny_patch4_window7_224"}


def test_methods_take_their_own_views_at_the_papers_scale():
    views = {cell.name: cell.config.views for cell in _grid("sota", "paper").cells}
    for two_recipes in ("byol", "barlow_twins"):
        assert [one.solarize_probability for one in views[two_recipes].of_each(2)] == [0.0, 0.2]
    assert [one.image_size for one in views["dino"].of_each(10)] == [224] * 2 + [96] * 8
    assert {cell for cell, one in views.items() if one.recipes} == {"byol", "barlow_twins", "dino"}


def test_the_rows_of_table_3_that_there_are():
    reference = plan(_grid("sota", "paper")).record().reference
    assert {cell: values["linear_100"] for cell, values in reference.items()} == {
        "supervised": 77.46, "dino": 16.74, "simsiam": 46.75, "mocov2": 63.98, "lewel": 64.59, "dilo": 62.97,
        "contrastive_crop": 64.23, "sam_ssl_bilinear_parts": 64.94, "lcr_attention": 65.24,
        "synthesized_simsiam": 57.80, "synthesized": 66.17
    }  # fmt: skip


def test_published_encoders_are_measured_on_the_images_that_they_expect():
    import timm

    rows = {cell.name: cell.config for cell in _grid("sota", "foundations").cells}
    for name in ("dinov2", "dinov3", "clip"):
        encoder, views, start = rows[name].encoder, rows[name].views, rows[name].start.encoder
        published = timm.get_pretrained_cfg(encoder.name)
        assert published is not None
        assert (views.mean, views.std) == (published.mean, published.std)
        assert (views.image_size, views.evaluation_resize) == (224, 256)  # as all rows
        assert start is not None
        assert start.file == f"weights/{encoder.name}.safetensors"
        assert not rows[name].method.trains
    of_paper = {cell.name: cell.config for cell in _grid("sota", "paper").cells}
    assert {name: rows[name] for name in of_paper} == of_paper


@pytest.mark.parametrize("preset", ["demo", "gtsrb", "paper"])
def test_all_rows_on_mocov2_have_the_same_mocov2(preset):
    methods: dict[str, Any] = {cell.name: cell.config.method for cell in _grid("sota", preset).cells}
    on_it = ("lewel", "sam_ssl_bilinear", "sam_ssl_bilinear_parts", "lcr", "lcr_attention", "synthesized")
    assert methods["contrastive_crop"] == methods["mocov2"]
    assert all(getattr(methods[name], "base", None) == methods["mocov2"] for name in on_it)


def test_two_poolings_of_one_method_share_their_training():
    made = plan(_grid("sota", "demo"))
    for gap, learned in (("lcr", "lcr_attention"), ("sam_ssl_bilinear", "sam_ssl_bilinear_parts")):
        assert made.of_cell[gap, 0].run == made.of_cell[learned, 0].run


@pytest.mark.parametrize(
    ("name", "preset", "dataset"),
    [
        ("small_sets", "isic2017", "isic2017"),
        ("general_sets", "cifar100", "cifar100"),
        ("general_sets", "imagenet100", "imagenet100"),
        ("n_pairs_cifar10", "cifar10", "cifar10"),
        ("hcl_outliers", "vit", "df20mini"),
        ("main", "paper", "cub200"),
    ],
)
def test_a_dataset_that_is_not_packed_says_how_to_pack_it(name, preset, dataset, tmp_path):
    arguments = ["sweep", str(SWEEPS / f"{name}.yaml"), "--preset", preset, "--out", str(tmp_path / "out")]
    with pytest.raises(UserError) as caught:
        invoke(arguments)
    folder = f"shards/{dataset}"
    assert f"`fgssl pack {dataset} IMAGES {folder}` (`fgssl pack {dataset} --help` describes" in str(caught.value)
    assert not (tmp_path / "out").exists()
