"""Weights in and out: plain files with timm's key names."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fgssl.encoders.settings import EncoderSettings
from fgssl.errors import CheckpointError


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict from `.safetensors` or a torch file (also under `state_dict` or `model`)."""
    if not file.is_file():
        raise CheckpointError(f"{file}: no such weights file")
    try:
        if file.suffix == ".safetensors":
            return load(file.read_bytes())
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip each raise their own kinds
        raise CheckpointError(f"{file}: not a readable weights file: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: holds no state dict of tensors")
    return content


def load_weights(module: nn.Module, file: Path) -> None:
    """Load all of `module`'s weights; a classifier in the file is left aside, any other mismatch is listed."""
    given = {key: value for key, value in read_weights(file).items() if not key.startswith(("fc.", "classifier."))}
    wanted = module.state_dict()
    faults = [
        f"missing {key} {tuple(value.shape)}"
        for key, value in wanted.items()
        if key not in given and not key.endswith("num_batches_tracked")  # a count that older files lack
    ]
    faults += [f"unexpected {key}" for key in given if key not in wanted]
    faults += [
        f"{key} has shape {tuple(given[key].shape)}, wanted {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    if faults:
        shown = "\n  ".join(faults[:10])
        more = f"\n  and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise CheckpointError(f"{file}: weights of another architecture:\n  {shown}{more}")
    module.load_state_dict(given)


def weights_bytes(module: nn.Module, metadata: dict[str, str] | None = None) -> bytes:
    """The module's state dict as a safetensors file."""
    return save({key: value.cpu().contiguous() for key, value in module.state_dict().items()}, metadata=metadata)


def encoder_card(settings: EncoderSettings) -> dict[str, Any]:
    """What lies beside an exported encoder: how timm loads it."""
    call = ", ".join([repr(settings.name), "num_classes=0", *(f"{k}={v!r}" for k, v in settings.arguments.items())])
    return {
        "timm_model": settings.name,
        "arguments": settings.arguments,
        "stem": settings.stem,
        "load": f"timm.create_model({call}, checkpoint_path='encoder.safetensors')"
        if settings.stem == "standard"
        else f"model = timm.create_model({call}); fgssl.encoders.build.small_image_stem(model); "
        "model.load_state_dict(safetensors.torch.load_file('encoder.safetensors'))",
    }


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
