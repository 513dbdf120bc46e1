"""Foundation models from files with timm's keys give timm's own features, at another image size too."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fgssl.encoders.build import build_encoder
from fgssl.encoders.weights import load_weights
from fgssl.run.execution import execute
from fgssl.settings import config as configs
from fgssl.settings.encoder import EncoderSettings

NARROW: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
ANY_SIZE: dict[str, Any] = {"dynamic_img_size": True}


def publish(name: str, file: Path) -> None:
    """Write a file as timm publishes it, of a narrow model; its classifier, if it has one, has 5 outputs."""
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    classes: dict[str, Any] = {"num_classes": 5} if cfg.num_classes else {}
    model = timm.create_model(name, **NARROW, **classes)
    for parameter in model.parameters():  # timm begins with scales near 0, which would hide most of the network
        nn.init.normal_(parameter, std=0.5)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)


@pytest.mark.parametrize(
    ("name", "arguments", "image_size"),
    [
        ("vit_base_patch14_reg4_dinov2.lvd142m", ANY_SIZE, 28),
        ("vit_base_patch16_dinov3.lvd1689m", {}, 48),
        ("vit_base_patch16_clip_quickgelu_224.openai", ANY_SIZE, 48),
        ("vit_base_patch16_siglip_224.webli", ANY_SIZE, 48),
    ],
)
def test_its_features_are_those_of_timm(name: str, arguments: dict[str, Any], image_size: int, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    publish(name, file)
    encoder = build_encoder(EncoderSettings(name=name, arguments=NARROW | arguments), image_size)
    load_weights(encoder, file)
    fixed: dict[str, Any] = (
        {"img_size": image_size} if arguments else {}
    )  # timm then interpolates the positions as it loads them
    overlay = {"file": str(file)}
    timms = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, **NARROW, **fixed)
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(images), timms.eval()(images))


def test_a_row_measures_it_as_it_is(tmp_path: Path) -> None:
    name, file = "vit_small_patch14_dinov2.lvd142m", tmp_path / "dinov2.safetensors"
    publish(name, file)
    config = configs.parse(
        {
            "data": {"toy": {"image_size": 28, "train_images_per_species": 2, "test_images_per_species": 2}},
            "views": {"image_size": 28},
            "encoder": {"name": name, "arguments": NARROW | ANY_SIZE},
            "start": {"encoder": {"file": str(file)}},
            "method": {"name": "start_encoder"},
            "evaluation": {"linear": None, "knn": None},
            "resources": {"device": "cpu"},
        },
        "test",
    )
    folder = execute(config, tmp_path / "out")
    exported, given = load_file(folder.encoder), load_file(file)
    assert exported.keys() == given.keys()
    assert all(torch.equal(value, given[key]) for key, value in exported.items())
    measured = folder.evaluation(config)
    assert measured is not None
    assert measured.measures["rank1"] > 0
