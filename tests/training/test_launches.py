"""No step of any method makes the host wait for a GPU, and none launches more kernels than before."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.launches import launches
from benchmarks.step import config_with
from fgssl.settings.config import Config
from fgssl.training.engines.ddp import DataParallel

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

CHEAP = "method={name: cross_entropy}"


def test_no_method_waits(tiny_config: Callable[..., Config], every_method: tuple[str, ...]) -> None:
    counted = launches(tiny_config(*every_method))
    assert not counted.waits
    assert counted.uploads <= 10


def test_an_upload_that_waits_is_found(tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    step = DataParallel.step
    monkeypatch.setattr(DataParallel, "step", lambda engine: step(engine) + torch.ones(3).to("cuda").sum())
    (line,) = launches(tiny_config(CHEAP)).waits
    assert line.startswith("aten._to_copy.default in training/trainer.py")


def test_a_value_that_the_host_needs_is_found(
    tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DataParallel.step
    monkeypatch.setattr(DataParallel, "step", lambda engine: (norm := step(engine)) * float(norm))
    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        launches(tiny_config(CHEAP))


@pytest.mark.parametrize(("method", "kernels"), [("mocov2", 600), ("synthesized", 2000)])
def test_a_step_of_resnet50_launches_few_kernels(method: str, kernels: int) -> None:
    config = config_with("encoder.name=resnet50", "decoder.name=mirrored_resnet50", f"method={{name: {method}}}")
    assert launches(config).kernels <= kernels
