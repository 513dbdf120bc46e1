"""Encoders: timm models without their classifier, from images (N, C, H, W) to features (N, D)."""

import inspect
from collections.abc import Collection
from typing import Any

import timm
import torch
from timm.layers.patch_dropout import PatchDropout, PatchDropoutWithIndices
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from fgssl.encoders.batch_norm import group_batch_norms
from fgssl.encoders.freezing import freeze
from fgssl.errors import Problem, SettingsError
from fgssl.settings.encoder import EncoderSettings
from fgssl.settings.validation import unknown

_REFUSALS = (AssertionError, RuntimeError, ValueError, IndexError)
"""Errors that timm's models raise for an image size that they cannot take. They must be tried, since no attribute lists
the sizes of every model."""
_OTHER_WEIGHTS = "; weights of another size need dynamic_img_size: true instead"


def build_encoder(settings: EncoderSettings, image_size: int, recipe_sizes: Collection[int] = ()) -> nn.Module:
    """Return an encoder with random weights, grouped BatchNorm, and the parts in `settings.frozen` frozen.

    Args:
        settings: Name and arguments of the model.
        image_size: Side in pixels of the images that are measured, and of views without a recipe of their own.
        recipe_sizes: Sides in pixels of the training views.

    Raises:
        SettingsError: The name is unknown, the arguments do not fit the model, or the model does not turn an image of
            one of these sizes into one vector.
    """
    if not timm.is_model(settings.name):
        raise SettingsError([Problem("config", "encoder.name", _unknown_name(settings.name))])
    arguments: dict[str, Any] = {**settings.arguments}
    try:
        encoder = timm.create_model(settings.name, pretrained=False, num_classes=0, **arguments)
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        message = f"timm.create_model({settings.name!r}, {settings.arguments}) rejects them: {error}"
        raise SettingsError([Problem("config", "encoder.arguments", message)]) from error
    _require_names_of_nulls(encoder, settings)
    if random_layers := _random_layers(encoder):
        message = (
            f"{settings.name} draws random numbers in training ({', '.join(random_layers[:3])}), which no resumed run "
            "could repeat: set drop_rate, drop_path_rate and the like to 0 in encoder.arguments"
        )
        raise SettingsError([Problem("config", "encoder.arguments", message)])
    if settings.stem == "small_image":
        small_image_stem(encoder)
    _require_fit(encoder, settings, image_size)
    for size in sorted({*recipe_sizes} - {image_size}):
        _require_recipe_fit(encoder, settings.name, size)
    encoder.train()
    try:
        group_batch_norms(encoder, settings.batch_norm_group_size)
    except NotImplementedError as error:
        raise SettingsError([Problem("config", "encoder.name", f"{settings.name}: {error}")]) from error
    return freeze(encoder, settings.frozen)


def _require_names_of_nulls(encoder: nn.Module, settings: EncoderSettings) -> None:
    """Raise a `SettingsError` if a null has the name of no argument, since timm drops each null without a look."""
    parameters = inspect.signature(type(encoder).__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = sorted(parameters.keys() - {"self"})
    problems = [
        Problem("config", f"encoder.arguments.{name}", unknown(name, known, what=f"argument of {settings.name}"))
        for name, value in settings.arguments.items()
        if value is None and name not in known
    ]
    if problems:
        raise SettingsError(problems)


def small_image_stem(encoder: nn.Module) -> None:
    """Replace a ResNet's first convolution by a 3x3 one of stride 1 and remove its max-pooling.

    This is the form for CIFAR-10 of He et al. (2016). Raises a `SettingsError` if the encoder is not such a ResNet.
    """
    if not (isinstance(getattr(encoder, "conv1", None), nn.Conv2d) and hasattr(encoder, "maxpool")):
        message = f"small_image fits ResNets with one first convolution, not {type(encoder).__name__}: take standard"
        raise SettingsError([Problem("config", "encoder.stem", message)])
    old = encoder.conv1
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    encoder.conv1 = new
    encoder.maxpool = nn.Identity()


def feature_width(encoder: nn.Module) -> int:
    """Return the width D of the encoder's features."""
    return int(encoder.head_hidden_size)  # type: ignore[arg-type]  # num_features differs where a head adds layers


def _require_fit(encoder: nn.Module, settings: EncoderSettings, image_size: int) -> None:
    try:
        features = _of_blank_image(encoder, image_size)
    except _REFUSALS as error:
        message = f"{_size_advice(encoder, settings.name, image_size)} (timm: {error})"
        raise SettingsError([Problem("config", "views.image_size", message)]) from error
    if not (isinstance(features, Tensor) and features.shape == (1, feature_width(encoder))):
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        message = (
            f"{settings.name} with {settings.arguments} turns an image into {got}, not into one vector: leave out "
            "arguments that change its output (global_pool, features_only and the like)"
        )
        raise SettingsError([Problem("config", "encoder.arguments", message)])
    patches = getattr(encoder, "patch_embed", None)
    if {"img_size", "patch_size"} & settings.arguments.keys() and isinstance(patches, PatchEmbed):
        patch = patches.patch_size[0]
        if image_size % patch and not patches.dynamic_img_pad:
            message = (
                f"patch_size {patch} does not divide views.image_size {image_size}: timm would ignore the last "
                f"{image_size % patch} rows and columns of pixels; give a patch_size that divides it"
            )
            raise SettingsError([Problem("config", "encoder.arguments", message)])


def _require_recipe_fit(encoder: nn.Module, name: str, size: int) -> None:
    try:
        _of_blank_image(encoder, size)
    except _REFUSALS as error:
        message = (
            f"a recipe makes views of {size} px, which {name} cannot take: give another image_size, or let the model "
            f"take several (encoder.arguments: dynamic_img_size: true for a ViT, strict_img_size: false for a Swin) "
            f"(timm: {error})"
        )
        raise SettingsError([Problem("config", "views.recipes", message)]) from error


@torch.no_grad()
def _of_blank_image(encoder: nn.Module, size: int) -> Any:
    """Return the encoder's output for a black image, of shape (1, D) if it turns an image into one vector."""
    return encoder.eval()(torch.zeros(1, 3, size, size))


def _size_advice(encoder: nn.Module, name: str, image_size: int) -> str:
    patches = getattr(encoder, "patch_embed", None)
    if not isinstance(patches, PatchEmbed) or patches.img_size is None:
        usual = " x ".join(map(str, getattr(encoder, "pretrained_cfg", {}).get("input_size", ("another size",))))
        return (
            f"{name} cannot take images of 3 x {image_size} x {image_size}; it was made for {usual}: "
            "give another views.image_size, or this one as img_size in encoder.arguments if the model has that"
        )
    (height, width), patch = patches.img_size, patches.patch_size[0]
    if not patches.strict_img_size:
        return (
            f"{name} takes sizes that its patch_size {patch} divides, not {image_size}: give such a views.image_size, "
            "or another patch_size in encoder.arguments"
        )
    return (
        f"{name} takes images of {height} x {width} px, not {image_size}: set encoder.arguments: "
        f"{{img_size: {image_size}}} with a patch_size that divides it (now {patch}), or views.image_size: {height}"
        f"{_OTHER_WEIGHTS if 'dynamic_img_size' in inspect.signature(type(encoder)).parameters else ''}"
    )


def _random_layers(encoder: nn.Module) -> list[str]:
    """Return the names of layers with active dropout or stochastic depth."""
    of_patches = (PatchDropout, PatchDropoutWithIndices)  # timm builds these only if some patches are to be dropped
    return [
        name
        for name, layer in encoder.named_modules()
        if (isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p)
        or getattr(layer, "drop_prob", None)
        or isinstance(layer, of_patches)
    ]


def _unknown_name(name: str) -> str:
    return unknown(name, timm.list_models(), what="model").split("allowed:")[0] + "allowed: timm.list_models()"
