"""Optimizers whose state the engines would create wrongly."""

import dataclasses
from typing import ClassVar, Literal

import pytest
import torch
from torch import nn

from fgssl.errors import UserError
from fgssl.methods.method import ParameterGroup
from fgssl.schedules import Schedule
from fgssl.settings.training import AdamSettings, OptimizerSettings, SGDSettings
from fgssl.training.optim import build_optimizer


@dataclasses.dataclass(frozen=True)
class NAdam(OptimizerSettings):
    """An optimizer that keeps a product of momenta too."""

    implementation: ClassVar[str] = "torch.optim:NAdam"
    name: Literal["nadam"] = "nadam"
    learning_rate: float = 1e-3


def groups() -> list[ParameterGroup]:
    return [ParameterGroup([nn.Parameter(torch.zeros(2))], Schedule(0.1), Schedule(0.0))]


def test_another_state_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"training\.optimizer\.name nadam: torch\.optim:NAdam keeps state that the engines"
    ):
        build_optimizer(NAdam(name="nadam", learning_rate=1e-3), groups())


@pytest.mark.parametrize("settings", [SGDSettings(), AdamSettings()])
def test_those_of_the_package_are_taken(settings: OptimizerSettings) -> None:
    assert build_optimizer(settings, groups()).param_groups[0]["lr"] == settings.learning_rate
