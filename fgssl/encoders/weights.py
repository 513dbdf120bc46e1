"""Weights files: they are written with timm's keys; checkpoints of other projects are read too."""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from fgssl.encoders.key_layouts import to_timm
from fgssl.encoders.prefixes import contains, networks, without_copies
from fgssl.errors import CheckpointError
from fgssl.settings.encoder import EncoderSettings

LISTED_FAULTS = 40
"""Largest number of mismatched keys in a message."""


class _StandIn:
    """Object in a torch file that is no tensor, such as an `argparse.Namespace` or a number of numpy.

    It takes the place of every class and function that torch does not read by default, so that none is imported.
    """

    def __init__(self, *arguments: object) -> None:
        """Ignore the arguments of the object."""

    def __setstate__(self, state: object) -> None:
        """Ignore the attributes of the object."""


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return all tensors in the dictionaries of a `.safetensors` or a torch file, by their dotted paths.

    Other objects in the file are ignored, and no code in it is run.

    Raises:
        CheckpointError: The file does not exist, cannot be read or holds no tensors.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: no such weights file")
    whole_model = f"{file}: holds more than tensors, such as a whole model: save `model.state_dict()` instead"
    try:
        if file.suffix == ".safetensors":
            return load(file.read_bytes())
        # Files of torch before 1.6 are no zip archives, and their classes cannot be listed.
        foreign = get_unsafe_globals_in_checkpoint(file) if is_zipfile(file) else ["argparse.Namespace"]
        with safe_globals([(_StandIn, name) for name in foreign]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # the file holds code, which torch refuses to run
        raise CheckpointError(whole_model) from error
    except Exception as error:  # safetensors, pickle and zip each raise types of their own
        raise CheckpointError(f"{file}: not a readable weights file: {error}") from error
    if isinstance(content, dict) and (state := dict(_tensors(content))):
        return state
    raise CheckpointError(whole_model if isinstance(content, _StandIn) else f"{file}: holds no state dict of tensors")


def _tensors(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a dictionary and the dictionaries inside it, with their dotted paths."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{above}{key}", value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{above}{key}.")


def load_weights(module: nn.Module, file: Path, prefix: str | None = None) -> str:
    """Load all weights of `module` from a file with timm's, torchvision's or another known project's keys.

    The file may hold other networks too. A classifier of the module in the file is ignored.

    Args:
        module: Network that takes the weights.
        file: Weights file.
        prefix: Names that must stand in the prefix of the weights (see `fgssl.encoders.prefixes`), or None if any
            prefix will do.

    Returns:
        Prefix of the weights, which is empty if they stand at the top of the file.

    Raises:
        CheckpointError: No network in the file fits, and all differences of the closest one are listed; or several fit.
    """
    wanted, classifier = module.state_dict(), _classifier(module)
    state = read_weights(file)
    found = {
        path: {key: value for key, value in to_timm(held).items() if key in wanted or not key.startswith(classifier)}
        for path, held in networks(state).items()
        if prefix is None or contains(path, prefix)
    }
    if not found:
        tops = ", ".join(dict.fromkeys(key.partition(".")[0] for key in state))
        raise CheckpointError(f"{file}: no key lies below the prefix {prefix}; at the top of the file are {tops}")
    fitting = without_copies([path for path, given in found.items() if next(_faults(given, wanted), None) is None])
    if len(fitting) > 1 and prefix not in fitting:  # a whole prefix may also stand inside a longer one
        raise CheckpointError(
            f"{file}: holds {len(fitting)} networks that fit, below the prefixes {', '.join(fitting)}: choose one, "
            f"such as start.encoder.prefix={fitting[0]}"
        )
    if not fitting:
        closest = max(found, key=lambda path: (len(found[path].keys() & wanted.keys()), -len(path)))
        raise CheckpointError(f"{file}: {_mismatch(closest, found[closest], wanted)}")
    taken = prefix if prefix in fitting else fitting[0]
    module.load_state_dict(found[taken])
    return taken


def _faults(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a line for each weight that is missing, unexpected or of another shape."""
    for key, value in wanted.items():
        if key not in given and not key.endswith("num_batches_tracked"):  # older files lack this count
            yield f"missing {key} {tuple(value.shape)}"
    for key in given:
        if key not in wanted:
            yield f"unexpected {key}"
    for key, value in wanted.items():
        if key in given and given[key].shape != value.shape:
            shapes = f"{tuple(given[key].shape)}, wanted {tuple(value.shape)}"
            yield f"{key} has shape {shapes}{_other_size(key, given[key], value)}"


def _mismatch(prefix: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the message about a network in the file, found below `prefix`, that is not the wanted one."""
    faults = list(_faults(given, wanted))
    lines = [f"weights of another architecture{prefix and f' below the prefix {prefix}'}:", *faults[:LISTED_FAULTS]]
    if len(faults) > LISTED_FAULTS:
        lines.append(f"and {len(faults) - LISTED_FAULTS} more")
    if not given.keys() & wanted.keys():
        lines.append(f"the file holds {len(given)} other tensors: {', '.join(list(given)[:3])}, ...")
    return "\n  ".join(lines)


def _classifier(module: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of a timm model's classifier keys; empty for other modules."""
    names = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _other_size(key: str, given: Tensor, wanted: Tensor) -> str:
    """Return advice if the weight is a table with one entry per position, and only their number differs; else ""."""
    if key.endswith("pos_embed") and given.shape[-1] == wanted.shape[-1]:
        return (
            ": its img_size or patch_size differs; set encoder.arguments and views.image_size to those of the file, or "
            "encoder.arguments to its img_size and dynamic_img_size: true, which interpolates the positions"
        )
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
