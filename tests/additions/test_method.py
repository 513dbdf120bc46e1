"""Addition of a method, a decoder, an optimizer, a noise and a key layout: one file and one line each."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fgssl.methods
from fgssl.errors import SettingsError, UserError
from fgssl.settings.config import Config
from fgssl.settings.decoder import DECODERS
from fgssl.settings.methods import METHODS
from fgssl.settings.noise import VARIANTS
from fgssl.settings.training import OPTIMIZERS
from tests.docs.pages import blocks

TWO_STEPS = ("training.epochs=1", "training.global_batch_size=96")

ALIGNMENT, LINE = (block.text for block in blocks("docs/how-to/your-method.md", "python"))

FLAT_DECODER = '''
"""A decoder of one linear map."""

from typing import Literal

from torch import nn

from fgssl.settings.declare import settings
from fgssl.settings.decoder import DecoderSettings


@settings
class FlatSettings(DecoderSettings):
    implementation = "flat:flat_decoder"
    sizes = "any size up to 16 pixels"

    name: Literal["flat"] = "flat"
    bias: bool = False

    def makes(self, image_size):
        return image_size <= 16


def flat_decoder(feature_width, image_size, bias):
    image = (3, image_size, image_size)
    return nn.Sequential(nn.Linear(feature_width, 3 * image_size**2, bias=bias), nn.Unflatten(1, image))
'''

RADAM = '''
"""Adam whose first steps are rectified (Liu et al. 2020, arXiv:1908.03265)."""

from typing import Literal

from fgssl.settings.declare import FractionBelowOne, PositiveFloat, settings
from fgssl.settings.training import OptimizerSettings


@settings
class RAdamSettings(OptimizerSettings):
    implementation = "torch.optim:RAdam"

    name: Literal["radam"] = "radam"
    learning_rate: PositiveFloat = 0.01
    betas: tuple[FractionBelowOne, FractionBelowOne] = (0.9, 0.99)
'''

UNIT_NOISE = '''
"""Noise of one standard deviation everywhere."""

import torch


def one(deviations):
    return torch.ones_like(deviations.grad_cam)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return `module(name, text)`, which makes an importable module outside of the package."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


@pytest.fixture
def alignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line of the guide, as if they stood in the package."""
    (tmp_path / "alignment.py").write_text(ALIGNMENT)
    monkeypatch.setattr(fgssl.methods, "__path__", [*fgssl.methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "fgssl.methods.alignment", raising=False)
    ((name, path),) = ast.literal_eval(f"{{{LINE}}}").items()
    monkeypatch.setitem(METHODS, name, path)


def test_a_method_trains(tmp_path, alignment: None, tiny_config: Callable[..., Config]) -> None:
    from fgssl.run.execution import execute

    config = tiny_config("method={name: alignment, width: 4}", *TWO_STEPS)
    assert config.decoder is None  # which the method does not use
    folder = execute(config, tmp_path / "out")
    assert folder.path.name.startswith("alignment-seed0-")
    trained = folder.trained()
    assert trained is not None
    assert trained.steps == 2
    assert folder.encoder.is_file()


def test_its_batch_norms_are_grouped(module, tiny_config, monkeypatch: pytest.MonkeyPatch) -> None:
    from fgssl.encoders.batch_norm import GroupedBatchNorm1d
    from fgssl.methods.build import RANDOM_START, build_method

    linear = "nn.Linear(parts.feature_width, settings.width)"
    text = ALIGNMENT.replace(linear, f"nn.Sequential({linear}, nn.BatchNorm1d(settings.width))")
    module("normalized", text.replace("fgssl.methods.alignment:", "normalized:"))
    monkeypatch.setitem(METHODS, "alignment", "normalized:AlignmentSettings")
    config = tiny_config("method={name: alignment, width: 4}", "encoder.batch_norm_group_size=8")
    layer = build_method(config, RANDOM_START, ()).get_submodule("head.1")
    assert isinstance(layer, GroupedBatchNorm1d)
    assert layer.group_size == 8


def test_its_faults_are_told_with_their_keys(alignment: None, tiny_config) -> None:
    for given, message in (
        ("{name: alignmnt}", r"method\.name: unknown name 'alignmnt': did you mean 'alignment'\?"),
        ("{name: alignment, widht: 4}", r"method\.widht: unknown key 'widht': did you mean 'width'\?"),
        ("{name: alignment, width: 0}", r"method\.width: 0 is not allowed: input should be greater than 0"),
        ("{name: alignment, width: 64}", r"method\.width 64: must not exceed training\.global_batch_size"),
    ):
        with pytest.raises(SettingsError, match=message):
            tiny_config(f"method={given}")


def test_a_part_is_imported_only_when_it_is_chosen(monkeypatch, tiny_config) -> None:
    for registry in (METHODS, DECODERS, OPTIMIZERS):
        monkeypatch.setitem(registry, "absent", "no_such_module:Settings")
    tiny_config()
    with pytest.raises(UserError, match=r"methods\.py: METHODS\['absent'\]: .* No module named 'no_such_module'"):
        tiny_config("method={name: absent}")


def test_a_decoder_an_optimizer_and_a_noise_train(module, tmp_path, monkeypatch, tiny_config) -> None:
    from fgssl.run.execution import execute

    for name, text in (("flat", FLAT_DECODER), ("radam", RADAM), ("unit_noise", UNIT_NOISE)):
        module(name, text)
    monkeypatch.setitem(DECODERS, "flat", "flat:FlatSettings")
    monkeypatch.setitem(OPTIMIZERS, "radam", "radam:RAdamSettings")
    monkeypatch.setitem(VARIANTS, "unit", {"unit": "unit_noise:one"})
    queue = "method.base.queue_size=96"
    parts = ("decoder={name: flat, bias: true}", "training.optimizer={name: radam}", "method.noise.variant=unit")
    trained = execute(tiny_config(*parts, queue, *TWO_STEPS), tmp_path / "out").trained()
    assert trained is not None
    assert trained.steps == 2
    assert trained.metrics["noise_rms"] > 1  # far above the two noises of the papers
    with pytest.raises(SettingsError, match=r"views\.image_size 32: decoder flat makes any size up to 16 pixels"):
        tiny_config(parts[0], "views.image_size=32")


def test_a_key_layout_is_read(monkeypatch) -> None:
    import torch

    from fgssl.encoders.key_layouts import LAYOUTS, KeyLayout, to_timm

    state = {"trunk.first": torch.zeros(1), "trunk.queue": torch.ones(1)}
    assert to_timm(state) == state
    layout = KeyLayout("trunk.queue", ((r"trunk\.queue", None), (r"trunk\.(\w+)", r"\1")))
    monkeypatch.setitem(LAYOUTS, "trunk", layout)
    assert to_timm(state) == {"first": state["trunk.first"]}


def test_planning_with_shipped_methods_imports_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from hpc.sweeps.grid import expand; from fgssl.settings.methods import "
        "METHODS; import pkgutil; [pkgutil.resolve_name(path) for path in METHODS.values()]; "
        "assert expand(Path('sweeps/smoke.yaml')).cells; print({'torch', 'torchvision', 'timm'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
