"""Freezing of parts of an encoder.

Frozen parameters get no gradient; frozen modules also stay in evaluation mode.
"""

from collections.abc import Iterable

from torch import nn

from fgssl.errors import Problem, SettingsError
from fgssl.settings.validation import unknown

_MARK = "frozen_by_settings"  # set on the module itself, so that a deep copy (a key encoder) keeps it


def freeze(encoder: nn.Module, names: Iterable[str]) -> nn.Module:
    """Freeze modules and parameters of `encoder` by their names, and return the encoder.

    The name of a module freezes everything below it, and `all` freezes the whole encoder. Frozen parameters require no
    gradient. Frozen modules stay in evaluation mode, in which a BatchNorm uses its running statistics and does not
    update them.

    Raises:
        SettingsError: Names are unknown or belong to modules without weights; all of them are listed.
    """
    modules = {"all": encoder, **{name: module for name, module in encoder.named_modules() if name}}
    parameters = dict(encoder.named_parameters())
    names = tuple(names)
    weighted = [name for name, module in modules.items() if next(module.parameters(), None) is not None]
    top = ["all", *(name for name in (*parameters, *weighted) if "." not in name and name != "all")]
    faults = [
        f"{unknown(name, top, what='module')}, or the dotted name of a module with weights or of a parameter inside "
        "one of these"
        for name in names
        if name not in modules and name not in parameters
    ]
    faults += [
        f"{name}: has no weights in this encoder: remove it"
        for name in names
        if name in modules and name not in weighted
    ]
    if faults:
        raise SettingsError([Problem("config", "encoder.frozen", fault) for fault in faults])
    for name in names:
        if name in modules:
            modules[name].requires_grad_(False).eval()
            setattr(modules[name], _MARK, True)
        else:
            parameters[name].requires_grad_(False)
    return encoder


def train_unfrozen(module: nn.Module) -> nn.Module:
    """Call `module.train()`, keep every frozen module inside it in evaluation mode, and return `module`."""
    module.train()
    for child in module.modules():
        if getattr(child, _MARK, False):
            child.eval()
    return module
