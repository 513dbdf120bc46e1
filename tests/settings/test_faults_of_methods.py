"""Wrong settings of the methods on feature maps, of ContrastiveCrop, HMLC and the monitor: file, line, key, advice."""

from pathlib import Path

import pytest

from fgssl.errors import SettingsError
from fgssl.settings import config as configs


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("method:\n  name: lcr\n  parts: 0", 3, "method.parts: 0 is not allowed: input should be greater than 0"),
        (
            "method:\n  name: lcr\n  base: {name: simclr}",
            3,
            "method.base.name: unknown name 'simclr': allowed: mocov2, simsiam, byol",
        ),
        (
            "method:\n  name: lewel\n  base:\n    name: simsiam",
            4,
            "method.base.name: unknown name 'simsiam': allowed: byol, mocov2",
        ),
        (
            "method:\n  name: sam_ssl_bilinear\n  base: mocov2",
            3,
            "method.base: 'mocov2' is not allowed: give a mapping, such as {name: mocov2}",
        ),
        (
            "method:\n  name: lewel\n  groups: 3",
            3,
            "method.groups 3 must divide method.base.projection_width 256",
        ),
        (
            "method: {name: simclr}\nviews:\n  contrastive_crop:\n    warm_up_epochs: 20\ntraining: {epochs: 20}",
            4,
            "views.contrastive_crop.warm_up_epochs 20 must be below training.epochs 20, or no box is ever searched: "
            "give a fifth, 4, or boxes: center, which needs no warm-up",
        ),
        (
            "method: {name: simclr}\nviews:\n  contrastive_crop:\n    boxes: middle",
            4,
            "views.contrastive_crop.boxes: 'middle' is not allowed: input should be 'activations' or 'center'",
        ),
        (
            "method: {name: mocov2}\nevaluation:\n  pooling: [attention]",
            3,
            "evaluation.pooling: ['attention'] is not allowed: input should be 'gap', 'attention' or 'bilinear'",
        ),
        (
            "method: {name: mocov2}\nevaluation:\n  pooling: attention",
            3,
            "evaluation.pooling: method mocov2 trains no pooling by attention: take gap",
        ),
        (
            "method: {name: lcr}\nevaluation:\n  pooling: bilinear",
            3,
            "evaluation.pooling: method lcr trains no pooling by bilinear: take gap or attention",
        ),
        (
            "method:\n  name: hmlc\n  level_weights: [0, 0]",
            1,
            "method: level_weights [0.0, 0.0]: one must be above 0, e.g. [2.0, 1.4142]",
        ),
        (
            "method:\n  name: hcl\n  level_weights: [1, 2]",
            1,
            "method: level_weights [1.0, 2.0]: must begin above 0 and never rise, e.g. [1.0, 0.1]",
        ),
        (
            "resources:\n  monitor_every_epochs: 0",
            2,
            "resources.monitor_every_epochs: 0 is not allowed: input should be greater than 0",
        ),
    ],
)
def test_a_wrong_setting_is_found_in_its_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        configs.load(file)
    assert str(caught.value) == f"{file}:{line}: {message}"


@pytest.mark.parametrize("method", ["lcr", "sam_ssl_bilinear", "lewel"])
def test_zero3_is_refused_for_a_base_with_a_moving_average(method: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"method: {{name: {method}, base: {{name: byol}}}}\nresources:\n  engine: zero3")
    with pytest.raises(SettingsError) as caught:
        configs.load(file)
    assert str(caught.value).startswith(f"{file}:3: resources.engine zero3: the moving average of byol needs all")


def test_a_fault_of_two_settings_is_placed_where_the_first_was_written(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: {name: mocov2}")
    with pytest.raises(SettingsError) as caught:
        configs.load(file, ["evaluation.pooling=attention"])
    assert (
        str(caught.value) == "command line: evaluation.pooling: method mocov2 trains no pooling by attention: take gap"
    )


def test_boxes_that_need_no_search_need_no_warm_up(tmp_path: Path) -> None:
    crop = "views: {contrastive_crop: {boxes: center, warm_up_epochs: 20}}\ntraining: {epochs: 5}"
    (file := tmp_path / "run.yaml").write_text(crop)
    assert configs.load(file).views.contrastive_crop is not None
