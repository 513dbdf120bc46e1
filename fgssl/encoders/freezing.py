"""Parts of an encoder that training leaves as they are: no gradient, and evaluation mode throughout."""

from collections.abc import Iterable

from torch import nn

from fgssl.errors import Problem, SettingsError
from fgssl.settings.validation import unknown

_MARK = "frozen_by_settings"  # an attribute of the module itself, so that a deep copy (a key encoder) keeps it


def freeze(encoder: nn.Module, names: Iterable[str]) -> nn.Module:
    """Freeze modules or parameters by their names in `encoder`, a module with all below it; `all` is the encoder.

    Frozen parameters ask for no gradient; frozen modules are in evaluation mode, so that a BatchNorm uses its running
    statistics and does not move them. Raises a `SettingsError` with all names that are unknown or hold no weights.
    """
    modules = {"all": encoder, **{name: module for name, module in encoder.named_modules() if name}}
    parameters = dict(encoder.named_parameters())
    names = tuple(names)
    top = ["all", *(name for name in (*parameters, *modules) if "." not in name and name != "all")]
    faults = [
        f"{unknown(name, top, what='module')}, and what lies below these"
        for name in names
        if name not in modules and name not in parameters
    ]
    faults += [
        f"{name}: has no weights in this encoder: remove it"
        for name in names
        if name in modules and next(modules[name].parameters(), None) is None
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
    """Call `module.train()`, but leave every frozen module inside it in evaluation mode."""
    module.train()
    for child in module.modules():
        if getattr(child, _MARK, False):
            child.eval()
    return module
