"""Encoders by timm's names, and errors for wrong names and arguments."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from fgssl.encoders.batch_norm import GroupedBatchNorm2d
from fgssl.encoders.build import build_encoder, feature_width
from fgssl.errors import SettingsError
from fgssl.settings.encoder import EncoderSettings

SMALL: dict[str, Any] = {"channels": [8, 8, 16, 24], "layers": [1, 1, 1, 1]}


def test_a_timm_model_without_its_classifier() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL), 32)
    plain = timm.create_model("resnet18", num_classes=0, **SMALL)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(encoder.state_dict())
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(encoder.eval()(images), plain.eval()(images))
    assert encoder(images).shape == (3, feature_width(encoder)) == (3, 24)


def test_batch_norms_are_in_groups_of_the_set_size() -> None:
    encoder = build_encoder(EncoderSettings(name="resnet18", arguments=SMALL, batch_norm_group_size=8), 32)
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert len(layers) > 8
    assert all(isinstance(layer, GroupedBatchNorm2d) and layer.group_size == 8 for layer in layers)


def test_the_weights_are_a_function_of_torchs_seed() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        settings = EncoderSettings(name="resnet18", arguments=SMALL, stem="small_image")
        states.append(build_encoder(settings, 32).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_the_stem_for_small_images_keeps_the_resolution() -> None:
    settings = EncoderSettings(name="resnet18", arguments=SMALL, stem="small_image")
    encoder = build_encoder(settings, 32)
    sides = []
    encoder.layer1.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))  # type: ignore[union-attr]
    encoder.eval()(torch.randn(2, 3, 32, 32))
    assert sides == [32]
    assert encoder.conv1.weight.shape == (64, 3, 3, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["resnet18d", "vit_tiny_patch16_224"])
def test_the_stem_for_small_images_refuses_what_is_no_plain_resnet(name: str) -> None:
    with pytest.raises(SettingsError, match=r"encoder.stem: small_image fits ResNets .* take standard"):
        build_encoder(EncoderSettings(name=name, stem="small_image"), 32)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderSettings(name="resnet_50"), 32)
    assert str(caught.value) == (
        "config: encoder.name: unknown model 'resnet_50': did you mean 'resnet50'? allowed: timm.list_models()"
    )


@pytest.mark.parametrize(
    "arguments", [{"chanels": [8, 8, 8, 8]}, {"norm_layer": "none"}, {"output_stride": 5}, {"layers": "many"}]
)
def test_arguments_that_timm_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"encoder.arguments: timm.create_model\('resnet34', .* rejects them: "):
        build_encoder(EncoderSettings(name="resnet34", arguments=arguments), 32)


def test_a_null_for_an_argument_that_the_model_lacks() -> None:
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderSettings(name="resnet34", arguments={"chanels": None, "layers": None}), 32)
    assert str(caught.value).startswith(
        "config: encoder.arguments.chanels: unknown argument of resnet34 'chanels': did you mean 'channels'? allowed: "
    )


def test_a_model_whose_batch_norms_cannot_be_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    model = timm.create_model("resnet18", num_classes=0)
    model.bn1 = nn.SyncBatchNorm(64)  # which would let the number of processes into the result
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: model)
    with pytest.raises(SettingsError, match=r"encoder.name: resnet18: .*SyncBatchNorm cannot be grouped"):
        build_encoder(EncoderSettings(name="resnet18"), 32)


# ------------------------------------------------------------------------------- every kind of model

SMALL_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
SMALL_SWIN: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 12,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "drop_path_rate": 0,
}


@pytest.mark.parametrize(
    ("name", "arguments", "image_size"),
    [
        ("resnet50", {}, 64),
        ("vit_small_patch16_224", {"img_size": 32, "patch_size": 4}, 32),
        ("swin_tiny_patch4_window7_224", {"img_size": 32, "patch_size": 2, "window_size": 4, "drop_path_rate": 0}, 32),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, 48),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN | {"img_size": 64, "strict_img_size": False}, 32),
        ("hgnetv2_b0", {}, 32),  # its head widens the features: num_features is not their width
        pytest.param("resnet50", {}, 224, marks=pytest.mark.slow),
        pytest.param("vit_small_patch16_224", {}, 224, marks=pytest.mark.slow),
        pytest.param("vit_base_patch16_224", {}, 224, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", {"drop_path_rate": 0}, 224, marks=pytest.mark.slow),
    ],
)
def test_features_and_gradients_of_each_model(name: str, arguments: dict[str, Any], image_size: int) -> None:
    encoder = build_encoder(EncoderSettings(name=name, arguments=arguments, batch_norm_group_size=2), image_size)
    assert encoder.training
    normalizations = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert bool(normalizations) == (name in ("resnet50", "hgnetv2_b0"))
    assert all(isinstance(layer, GroupedBatchNorm2d) for layer in normalizations)
    features = encoder(torch.randn(4, 3, image_size, image_size))
    assert features.shape == (4, feature_width(encoder))
    features.square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert next(encoder.parameters()).grad.any()  # type: ignore[union-attr]  # the far end of the backward pass


def test_a_training_pass_draws_no_random_numbers() -> None:
    for name, arguments in (("vit_tiny_patch16_224", SMALL_VIT), ("swin_tiny_patch4_window7_224", SMALL_SWIN)):
        encoder = build_encoder(EncoderSettings(name=name, arguments=arguments), 32)
        before = torch.get_rng_state()
        encoder(torch.randn(2, 3, 32, 32, generator=torch.Generator()))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("swin_tiny_patch4_window7_224", {}),  # timm's own default is a drop_path_rate of 0.1
        ("vit_tiny_patch16_224", SMALL_VIT | {"proj_drop_rate": 0.1}),
        ("vit_tiny_patch16_224", SMALL_VIT | {"patch_drop_rate": 0.5}),
        ("resnet18", SMALL | {"drop_block_rate": 0.1}),
    ],
)
def test_a_model_that_draws_random_numbers(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"encoder.arguments: .* draws random numbers .*drop_path_rate .* to 0"):
        build_encoder(EncoderSettings(name=name, arguments=arguments), 32)


# --------------------------------------------------------------------------------------- image sizes


def problem(name: str, arguments: dict[str, Any], image_size: int) -> str:
    with pytest.raises(SettingsError) as caught:
        build_encoder(EncoderSettings(name=name, arguments=arguments), image_size)
    return str(caught.value)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_an_image_size_that_a_transformer_cannot_take(name: str) -> None:
    small, patch = (SMALL_VIT, 4) if name.startswith("vit") else (SMALL_SWIN, 2)
    assert problem(name, small, 64) == (
        f"config: views.image_size: {name} takes images of 32 x 32 px, not 64: set encoder.arguments: {{img_size: 64}} "
        f"with a patch_size that divides it (now {patch}), or views.image_size: 32; weights of another size "
        "need dynamic_img_size: true instead (timm: Input height (64) doesn't match model (32).)"
    )
    build_encoder(EncoderSettings(name=name, arguments=small | {"img_size": 64}), 64)  # what it says to do
    build_encoder(EncoderSettings(name=name, arguments=small | {"dynamic_img_size": True}), 64)


def test_an_image_size_that_the_patches_do_not_divide() -> None:
    said = problem("vit_tiny_patch16_224", SMALL_VIT | {"dynamic_img_size": True}, 30)
    assert "views.image_size: vit_tiny_patch16_224 takes sizes that its patch_size 4 divides, not 30" in said
    said = problem("vit_tiny_patch16_224", SMALL_VIT | {"img_size": 30}, 30)  # timm itself says nothing
    assert "encoder.arguments: patch_size 4 does not divide views.image_size 30" in said
    assert "the last 2 rows and columns" in said


@pytest.mark.parametrize(
    ("name", "image_size"),
    [("levit_128s", 96), ("inception_v3", 32)],  # positions by attention biases; a map smaller than its kernel
)
def test_an_image_size_that_another_model_cannot_take(name: str, image_size: int) -> None:
    said = problem(name, {}, image_size)
    assert (
        f"views.image_size: {name} cannot take images of 3 x {image_size} x {image_size}; it was made for 3 x" in said
    )


def test_recipes_of_a_size_that_the_model_cannot_take() -> None:
    settings = EncoderSettings(name="vit_tiny_patch16_224", arguments=SMALL_VIT)
    with pytest.raises(SettingsError) as caught:
        build_encoder(settings, 32, [32, 16])
    assert "config: views.recipes: a recipe makes views of 16 px, which vit_tiny_patch16_224 cannot" in str(
        caught.value
    )
    several = EncoderSettings(name="vit_tiny_patch16_224", arguments=SMALL_VIT | {"dynamic_img_size": True})
    assert build_encoder(several, 32, [32, 16]).training  # what it says to do
    swin = SMALL_SWIN | {"strict_img_size": False}
    build_encoder(EncoderSettings(name="swin_tiny_patch4_window7_224", arguments=swin), 32, [16])


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        (SMALL_VIT | {"global_pool": ""}, r"shape \(1, 65, 24\)"),
        (SMALL_VIT | {"features_only": True, "out_indices": [0, 1]}, "list"),
    ],
)
def test_a_model_that_gives_no_vector(arguments: dict[str, Any], got: str) -> None:
    with pytest.raises(SettingsError, match=f"encoder.arguments: .* turns an image into {got}, not into one vector"):
        build_encoder(EncoderSettings(name="vit_tiny_patch16_224", arguments=arguments), 32)
