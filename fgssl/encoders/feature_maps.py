"""Feature maps: what an encoder sees at each position, before it is pooled to one vector."""

from typing import cast

import torch
from torch import Tensor, nn

from fgssl.encoders.freezing import train_unfrozen
from fgssl.errors import Problem, SettingsError


def unpooled(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return timm's features before pooling: maps in the encoder's own layout, or tokens."""
    return cast(Tensor, encoder.forward_features(images))  # type: ignore[operator]


def pooled(encoder: nn.Module, found: Tensor) -> Tensor:
    """Return the features (N, D) that the encoder makes of `unpooled` ones; both steps are `encoder(images)`."""
    return cast(Tensor, encoder.forward_head(found))  # type: ignore[operator]


def as_map(found: Tensor, encoder: nn.Module) -> Tensor:
    """Return unpooled features, the patch tokens of a ViT among them, as a feature map (N, C, H, W)."""
    if found.ndim == 3:
        patches = found[:, int(getattr(encoder, "num_prefix_tokens", 0)) :]
        side = round(patches.shape[1] ** 0.5)
        return patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return found.permute(0, 3, 1, 2) if getattr(encoder, "output_fmt", "NCHW") == "NHWC" else found


def grad_cam(found: Tensor, gradient: Tensor) -> Tensor:
    """Return Grad-CAM (N, H, W) of a feature map (N, C, H, W) and a gradient by it (Selvaraju et al. 2017, Eq. 1, 2).

    A channel's weight is the mean of its gradient over the positions. Only positive scores are kept.
    """
    return (gradient.mean(dim=(2, 3), keepdim=True) * found).sum(dim=1).clamp_min(0)


@torch.no_grad()
def map_channels(encoder: nn.Module, image_size: int) -> int:
    """Return the number C of channels of the encoder's feature map of images of `image_size` pixels.

    Raises:
        SettingsError: The model gives no feature map in timm, or one of a single position.
    """
    encoder.eval()
    try:
        image = next(encoder.parameters(), torch.empty(0)).new_zeros(1, 3, image_size, image_size)
        channels, height, width = as_map(unpooled(encoder, image), encoder).shape[1:]
    except torch.OutOfMemoryError:  # a RuntimeError too
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        message = (
            f"{type(encoder).__name__} gives no feature map in timm: take another encoder, such as a ResNet ({error})"
        )
        raise SettingsError([Problem("config", "encoder.name", message)]) from error
    train_unfrozen(encoder)
    if height * width == 1:
        message = (
            f"the feature map of an image of {image_size} px has one position, in which no part or object can be "
            "found: give larger images, or a smaller output_stride in encoder.arguments"
        )
        raise SettingsError([Problem("config", "views.image_size", message)])
    return int(channels)


def refuse_unused_maps(encoder: nn.Module, image_size: int) -> None:
    """Raise a `SettingsError` if the features do not depend on the feature map, as those of a ViT's class token.

    The gradient of any loss by the map is then 0, and so is the Grad-CAM.
    """
    encoder.eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, image_size, image_size, generator=generator)
    found = unpooled(encoder, image.to(next(encoder.parameters()))).detach().requires_grad_()
    features = pooled(encoder, found)
    direction = torch.randn(features.shape, generator=generator)  # a layer norm removes the gradient of a plain sum
    (gradient,) = torch.autograd.grad(features, found, direction.to(features))
    train_unfrozen(encoder)
    if not as_map(gradient, encoder).any():
        message = (
            f"the features of {type(encoder).__name__} do not depend on its feature map, since it pools the class "
            "token alone, so no Grad-CAM shows a position: give {global_pool: avg}, or take encoder.name resnet50"
        )
        raise SettingsError([Problem("config", "encoder.arguments", message)])


def refuse_normalized_maps(encoder: nn.Module) -> None:
    """Raise a `SettingsError` if a layer norm follows the last block, so that channels sum to the same everywhere.

    It comes last in a ViT, a Swin and, after pooling, a ConvNeXt. It subtracts the mean over the channels, so no loss
    trains that mean to show an object.
    """
    *_, last = (module for module in encoder.modules() if any(True for _ in module.parameters(recurse=False)))
    if isinstance(last, nn.LayerNorm):
        message = (
            "activations are summed over the channels of the last feature map, but the layer norm at the end of "
            f"{type(encoder).__name__} removes that sum, which therefore shows no object: take center, or a ResNet"
        )
        raise SettingsError([Problem("config", "views.contrastive_crop.boxes", message)])
