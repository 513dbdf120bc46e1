"""Weights with torchvision's names: the timm encoder that loads them computes torchvision's features.

All parameters are random and in fp64, so that a swapped name, another epsilon or an approximate GELU differs by more
than 1e-10.
"""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from fgssl.encoders.build import build_encoder
from fgssl.encoders.weights import load_weights
from fgssl.errors import CheckpointError
from fgssl.settings.encoder import EncoderSettings

VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
SWIN: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 12,
    "depths": [2, 2, 2],
    "num_heads": [2, 3, 4],
    "drop_path_rate": 0,
}


def torchvision_vit(**arguments: Any) -> nn.Module:
    return torchvision.models.VisionTransformer(
        **{"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 3, "hidden_dim": 24, "mlp_dim": 96}
        | arguments
    )


def torchvision_swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=12, depths=[2, 2, 2], num_heads=[2, 3, 4], window_size=[4, 4]
    )


def randomized(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.5 + 0.25 if tensor.ndim == 1 else torch.randn_like(tensor) / 4)
    return model.eval()


def encoder_of(name: str, arguments: dict[str, Any], image_size: int, state: Any, folder: Path) -> nn.Module:
    torch.save(state, folder / "weights.pth")
    encoder = build_encoder(EncoderSettings(name=name, arguments=arguments), image_size)
    load_weights(encoder, folder / "weights.pth")
    return encoder.eval()


@torch.no_grad()
def assert_same_features(encoder: nn.Module, reference: nn.Module, image_size: int) -> None:
    """Check features in fp64 and fp32 against `reference`, a network without its classifier."""
    images = torch.randn(2, 3, image_size, image_size)
    torch.testing.assert_close(encoder(images), reference(images), rtol=1e-4, atol=1e-5)
    expected = reference.double()(images.double())
    assert expected.std() > 1e-2
    torch.testing.assert_close(encoder.double()(images.double()), expected, rtol=1e-10, atol=1e-10)


def test_resnets_share_their_names(tmp_path: Path) -> None:
    reference = randomized(torchvision.models.resnet18(weights=None))
    encoder = encoder_of("resnet18", {}, 64, reference.state_dict(), tmp_path)
    reference.fc = nn.Identity()
    assert_same_features(encoder, reference, 64)


def test_lightlys_sequential_resnet(tmp_path: Path) -> None:
    resnet = randomized(torchvision.models.resnet18(weights=None))
    reference = nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())
    encoder = encoder_of("resnet18", {}, 64, reference.state_dict(), tmp_path)
    assert_same_features(encoder, reference, 64)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_supcontrasts_resnet(name: str, tmp_path: Path) -> None:
    """Its networks/resnet_big.py names the projection of a block's input `shortcut`, torchvision `downsample`."""
    reference = randomized(torchvision.models.get_model(name, weights=None))
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = reference.fc = nn.Identity()
    state = {key.replace("downsample", "shortcut"): value for key, value in reference.state_dict().items()}
    torch.save({"model": {f"encoder.{key}": value for key, value in state.items()}}, tmp_path / "last.pth")
    encoder = build_encoder(EncoderSettings(name=name, stem="small_image"), 32)
    assert load_weights(encoder, tmp_path / "last.pth") == "model.encoder"
    assert_same_features(encoder.eval(), reference, 32)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("representation_size", [None, 16])
def test_torchvisions_vision_transformer(published: bool, representation_size: int | None, tmp_path: Path) -> None:
    reference = randomized(torchvision_vit(representation_size=representation_size))
    state: dict[str, Tensor] = dict(reference.state_dict())
    if published:  # the published files are older than the names mlp.0 and mlp.3
        state = {key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): state[key] for key in state}
        reference.load_state_dict(state.copy())  # torchvision reads them as such
    encoder = encoder_of("vit_tiny_patch16_224", VIT, 32, state, tmp_path)
    reference.heads = nn.Identity()
    assert_same_features(encoder, reference, 32)


def test_torchvisions_swin_transformer(tmp_path: Path) -> None:
    reference = randomized(torchvision_swin())
    encoder = encoder_of("swin_tiny_patch4_window7_224", SWIN, 64, reference.state_dict(), tmp_path)
    reference.head = nn.Identity()
    assert_same_features(encoder, reference, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "ours", "arguments", "head"),
    [
        ("resnet50", "resnet50", {}, "fc"),
        ("vit_b_16", "vit_base_patch16_224", {}, "heads"),
        ("swin_t", "swin_tiny_patch4_window7_224", {"drop_path_rate": 0}, "head"),
    ],
)
def test_torchvisions_models_at_their_full_size(
    theirs: str, ours: str, arguments: dict[str, Any], head: str, tmp_path: Path
) -> None:
    reference = torchvision.models.get_model(theirs, weights=None).eval()
    encoder = encoder_of(ours, arguments, 224, reference.state_dict(), tmp_path)
    setattr(reference, head, nn.Identity())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), reference(images), rtol=1e-4, atol=1e-4)


def test_the_first_release_of_swin_is_read_as_timm_reads_it(tmp_path: Path) -> None:
    model = randomized(timm.create_model("swin_tiny_patch4_window7_224", **SWIN))
    state = {
        key.replace("layers.1.downsample", "layers.0.downsample")
        .replace("layers.2.downsample", "layers.1.downsample")
        .replace("head.fc.", "head."): value
        for key, value in model.state_dict().items()
    }
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    by_timm = checkpoint_filter_fn(state, model)
    assert by_timm.keys() == model.state_dict().keys()
    encoder = encoder_of("swin_tiny_patch4_window7_224", SWIN, 64, {"model": state}, tmp_path)
    assert all(torch.equal(value, by_timm[key]) for key, value in encoder.state_dict().items())


def test_weights_for_another_image_size_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        encoder_of("vit_tiny_patch16_224", VIT, 32, torchvision_vit(image_size=64).state_dict(), tmp_path)
    assert str(caught.value).splitlines()[1:] == [
        "  pos_embed has shape (1, 65, 24), wanted (1, 17, 24): its img_size or patch_size differs; set "
        "encoder.arguments and views.image_size to those of the file, or encoder.arguments to its img_size and "
        "dynamic_img_size: true, which interpolates the positions"
    ]
    for size, instead in ((64, {"img_size": 64}), (32, {"img_size": 64, "dynamic_img_size": True})):  # what it says
        encoder_of("vit_tiny_patch16_224", VIT | instead, size, torchvision_vit(image_size=64).state_dict(), tmp_path)


def test_weights_for_another_window_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"wanted \(9, 2\): its window_size or img_size differs; set"):
        encoder_of(
            "swin_tiny_patch4_window7_224", SWIN | {"window_size": 2}, 64, torchvision_swin().state_dict(), tmp_path
        )


def test_another_transformers_weights_are_listed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights of another architecture:\n.*missing blocks.3.norm1.weight"):
        encoder_of("vit_tiny_patch16_224", VIT | {"depth": 4}, 32, torchvision_vit().state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match=r"(?s)weights of another architecture:.*and \d+ more"):
        encoder_of("resnet18", {}, 32, torchvision_swin().state_dict(), tmp_path)
