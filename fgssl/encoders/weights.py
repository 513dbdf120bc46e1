"""Weights files: plain files with timm's keys; torchvision's keys are read too."""

import json
import pickle
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from fgssl.encoders.key_layouts import to_timm
from fgssl.errors import CheckpointError
from fgssl.settings.encoder import EncoderSettings

LISTED_FAULTS = 40
"""Largest number of mismatched keys in a message."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a `.safetensors` or a torch file, where it may lie under `state_dict` or `model`.

    Raises:
        CheckpointError: The file does not exist, cannot be read or holds anything but tensors.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such weights file")
    try:
        if file.suffix == ".safetensors":
            return load(file.read_bytes())
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # the file holds code, which torch refuses to run
        message = "holds more than tensors, such as a whole model: save `model.state_dict()` instead"
        raise CheckpointError(f"{file}: {message}") from error
    except Exception as error:  # safetensors, pickle and zip each raise types of their own
        raise CheckpointError(f"{file}: not a readable weights file: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file}: holds no state dict of tensors")
    return content


def load_weights(module: nn.Module, file: Path) -> None:
    """Load all weights of `module` from a file with timm's or torchvision's keys.

    A classifier in the file and the prefix `module.` of DataParallel are ignored.

    Raises:
        CheckpointError: Weights are missing, unexpected or of another shape; all of them are listed.
    """
    wanted = module.state_dict()
    classifier = _classifier(module)
    given = {
        key: value
        for key, value in to_timm(_without_data_parallel(read_weights(file))).items()
        if key in wanted or not key.startswith(classifier)
    }
    faults = [
        f"missing {key} {tuple(value.shape)}"
        for key, value in wanted.items()
        if key not in given and not key.endswith("num_batches_tracked")  # older files lack this count
    ]
    faults += [f"unexpected {key}" for key in given if key not in wanted]
    faults += [
        f"{key} has shape {tuple(given[key].shape)}, wanted {tuple(value.shape)}{_other_size(key, given[key], value)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    if faults:
        shown = "\n  ".join(faults[:LISTED_FAULTS])
        more = f"\n  and {len(faults) - LISTED_FAULTS} more" if len(faults) > LISTED_FAULTS else ""
        if not given.keys() & wanted.keys():  # such as when a wrapper put its name before every key
            more += f"\n  the file holds {len(given)} other tensors: {', '.join(list(given)[:3])}, ..."
        raise CheckpointError(f"{file}: weights of another architecture:\n  {shown}{more}")
    module.load_state_dict(given)


def _classifier(module: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of a timm model's classifier keys; empty for other modules."""
    names = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _without_data_parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if not all(key.startswith(prefix) for key in state):
        return state
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _other_size(key: str, given: Tensor, wanted: Tensor) -> str:
    """Return advice if the weight is a table with one entry per position, and only their number differs; else ""."""
    if key.endswith("pos_embed") and given.shape[-1] == wanted.shape[-1]:
        return ": its img_size or patch_size differs; set encoder.arguments and views.image_size to those of the file"
    if key.endswith("relative_position_bias_table") and given.shape[-1] == wanted.shape[-1]:
        return ": its window_size or img_size differs; set encoder.arguments and views.image_size to those of the file"
    return ""


def weights_bytes(module: nn.Module) -> bytes:
    """Return the module's state dict as the content of a safetensors file."""
    return save({key: value.cpu().contiguous() for key, value in module.state_dict().items()})


def encoder_card(settings: EncoderSettings) -> str:
    """Return the content of encoder.json, which lies beside exported weights and describes how timm loads them."""
    call = ", ".join([repr(settings.name), "num_classes=0", *(f"{k}={v!r}" for k, v in settings.arguments.items())])
    card = {
        "timm_model": settings.name,
        "arguments": settings.arguments,
        "stem": settings.stem,
        "load": f"timm.create_model({call}, checkpoint_path='encoder.safetensors')"
        if settings.stem == "standard"
        else f"model = timm.create_model({call}); fgssl.encoders.build.small_image_stem(model); "
        "model.load_state_dict(safetensors.torch.load_file('encoder.safetensors'))",
    }
    return json.dumps(card, indent=1) + "\n"
