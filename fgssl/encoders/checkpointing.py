"""Activation checkpointing: feature maps are discarded and recomputed for the gradient (Chen et al. 2016)."""

from torch import nn

from fgssl.errors import Problem, SettingsError


def checkpoint_activations(encoder: nn.Module) -> None:
    """Turn on activation checkpointing; raise a `SettingsError` if the model does not support it in timm."""
    try:
        encoder.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError) as error:
        message = f"{type(encoder).__name__} has no such option in timm: set it to false and lower micro_batch_size"
        raise SettingsError([Problem("config", "resources.activation_checkpointing", message)]) from error
