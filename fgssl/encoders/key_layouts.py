"""Renaming of weights from other libraries' keys to timm's, for networks that differ in nothing but the keys.

Supported are torchvision's VisionTransformer and SwinTransformer (v1), the first release of Swin, and the ResNets of
SupContrast and lightly. timm's models have the same epsilon of the LayerNorms (1e-6 in ViT, 1e-5 in Swin) and the same
exact GELU as torchvision's, unless `encoder.arguments` changes them. torchvision's ResNets need no renaming, since
torchvision and timm use the same keys.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str] | None]
"""Pattern for a whole key, and the replacement that gives timm's key; None drops the weight (timm has none, or it
belongs to the classifier)."""

_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)\."
TORCHVISION_VIT: tuple[Rule, ...] = (
    (r"class_token", r"cls_token"),
    (r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.pos_embedding", r"pos_embed"),
    (_BLOCK + r"ln_([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (_BLOCK + r"self_attention\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (_BLOCK + r"self_attention\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    # The published files are older than torchvision 0.14 and have linear_1 and linear_2.
    (_BLOCK + r"mlp\.(?:0|linear_1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (_BLOCK + r"mlp\.(?:3|linear_2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(\w+)", r"norm.\1"),
    (r"heads\..+", None),
)


def _stage(match: re.Match[str]) -> str:
    """Return timm's key of a weight in a stage (features.1, 3, 5, 7) or a downsampling (2, 4, 6).

    In timm, a downsampling belongs to the stage that follows it.
    """
    place, rest = int(match[1]), match[2]
    rest = rest.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    return f"layers.{place // 2}.{'blocks' if place % 2 else 'downsample'}.{rest}"


TORCHVISION_SWIN: tuple[Rule, ...] = (
    (r"features\.0\.0\.(\w+)", r"patch_embed.proj.\1"),
    (r"features\.0\.2\.(\w+)", r"patch_embed.norm.\1"),
    (r"features\.\d+\.\d+\.attn\.relative_position_index", None),  # a table of constants
    (r"features\.([1-9])\.(.+)", _stage),
    (r"head\.\w+", None),
)

FIRST_SWIN: tuple[Rule, ...] = (
    (r".+\.(?:relative_position_index|attn_mask)", None),  # tables of constants
    (r"layers\.(\d+)\.downsample\.(.+)", lambda match: f"layers.{int(match[1]) + 1}.downsample.{match[2]}"),
    (r"head\.\w+", None),
)

SUPCONTRAST_RESNET: tuple[Rule, ...] = ((r"(.+)\.shortcut\.(.+)", r"\1.downsample.\2"),)
"""ResNets of HobbitLong/SupContrast (`networks/resnet_big.py`), whose stem is `encoder.stem: small_image`."""

LIGHTLY_RESNET: tuple[Rule, ...] = (
    (r"0\.(.+)", r"conv1.\1"),
    (r"1\.(.+)", r"bn1.\1"),
    (r"([4-7])\.(.+)", lambda match: f"layer{int(match[1]) - 3}.{match[2]}"),
)
"""Backbones in the examples of lightly-ai/lightly: `nn.Sequential` of the children of torchvision's ResNet."""


@dataclass(frozen=True)
class KeyLayout:
    """Keys of one library, and their names in timm."""

    marker: str
    """Key that occurs in this layout and in no other."""
    rules: tuple[Rule, ...]
    """Rules for the keys. The first that matches applies; a key without a match stays as it is."""


LAYOUTS: dict[str, KeyLayout] = {
    "torchvision ViT": KeyLayout("encoder.pos_embedding", TORCHVISION_VIT),
    "torchvision Swin": KeyLayout("features.1.0.attn.relative_position_bias_table", TORCHVISION_SWIN),
    # No timm Swin has this key: its first stage has no downsampling.
    "first Swin": KeyLayout("layers.0.downsample.reduction.weight", FIRST_SWIN),
    "SupContrast ResNet": KeyLayout("layer2.0.shortcut.0.weight", SUPCONTRAST_RESNET),
    "lightly ResNet": KeyLayout("4.0.conv1.weight", LIGHTLY_RESNET),
}
"""Supported layouts besides timm's own, by name."""


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict under timm's keys.

    For a recognized layout, the classifier and constant tables (if any) are dropped; any other state dict is returned
    as it is.
    """
    rules = next((layout.rules for layout in LAYOUTS.values() if layout.marker in state), ())
    renamed = {_renamed(key, rules): value for key, value in state.items()}
    return {key: value for key, value in renamed.items() if key is not None}


def _renamed(key: str, rules: tuple[Rule, ...]) -> str | None:
    for pattern, name in rules:
        if match := re.fullmatch(pattern, key):
            return name(match) if callable(name) else None if name is None else match.expand(name)
    return key
