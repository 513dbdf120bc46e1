"""Search for one network's weights in a checkpoint that holds several networks, each below a prefix of its own.

A prefix is the path of a network in the file, joined by dots: the entries of the file's dictionaries, then the modules
around the network. Any prefix is found. The public repositories write these:

- facebookresearch/moco (`main_moco.py`): `state_dict.module.encoder_q`, and its momentum copy `encoder_k`.
- facebookresearch/dino (`main_dino.py`): `teacher.backbone` for transformers, `teacher.module.backbone` for networks
  with BatchNorm, and `student.module.backbone`.
- vturrisi/solo-learn (`solo/methods/base.py`): `state_dict.backbone` and its copy `momentum_backbone`; in older files
  `encoder` and `momentum_encoder`.
- HobbitLong/SupContrast (`util.py`, `main_supcon.py`): `model.encoder`, or `model.encoder.module` from several GPUs.
- lightly-ai/lightly (`examples/pytorch_lightning`): `state_dict.backbone` and its copy `backbone_momentum`, or
  `student_backbone` beside `teacher_backbone` or `backbone`.
- huggingface/pytorch-image-models: `state_dict` and `state_dict_ema`; torchvision's references: `model` and
  `model_ema.module`.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

COPIES: tuple[tuple[str, str], ...] = (
    ("encoder_q", "encoder_k"),  # moco: main_lincls.py reads encoder_q
    ("teacher", "student"),  # dino: the default of --checkpoint_key in eval_linear.py is teacher
    ("backbone", "momentum_backbone"),  # solo-learn: main_linear.py reads backbone
    ("encoder", "momentum_encoder"),  # solo-learn's older name of the same
    ("backbone", "backbone_momentum"),  # lightly: forward reads backbone
)
"""Pairs of names in prefixes. If a file holds a network below both, the first is taken, as the evaluation of the
project that writes them does; a setting can choose the second."""


def networks(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the weights below each prefix by that prefix, with the rest of their keys; "" holds all weights."""
    found = {"": dict(state)}
    for key, value in state.items():
        names = key.split(".")
        for length in range(1, len(names)):
            found.setdefault(".".join(names[:length]), {})[".".join(names[length:])] = value
    return found


def contains(prefix: str, part: str) -> bool:
    """Return whether `part`, one or several names joined by dots, stands in the prefix."""
    return f".{part.strip('.')}." in f".{prefix}."


def without_copies(prefixes: Collection[str]) -> list[str]:
    """Return the prefixes without those in `COPIES` whose first name is among them too."""
    present = {_without_wrappers(prefix) for prefix in prefixes}

    def copied(prefix: str) -> bool:
        names = _without_wrappers(prefix)
        return any(
            copy in names and tuple(taken if name == copy else name for name in names) in present
            for taken, copy in COPIES
        )

    return [prefix for prefix in prefixes if not copied(prefix)]


def _without_wrappers(prefix: str) -> tuple[str, ...]:
    """Return the names in the prefix without `module`, which DataParallel adds to one network and not to another."""
    return tuple(name for name in prefix.split(".") if name != "module")
