"""Program of each process: compare every stage of `Zero` with a plain optimizer on one process. argv: a folder."""

import copy
import math
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fgssl.batch import Batch
from fgssl.collectives import World, leave
from fgssl.encoders.batch_norm import frozen_batch_norm_statistics
from fgssl.encoders.freezing import train_unfrozen
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.methods.method import Method
from fgssl.schedules import Schedule
from fgssl.settings import config as configs
from fgssl.settings.training import AdamSettings, AdamWSettings, OptimizerSettings, SGDSettings
from fgssl.training.engines.ddp import DataParallel
from fgssl.training.engines.engine import Engine
from fgssl.training.engines.zero import Zero
from fgssl.training.optim import build_optimizer
from tests.conftest import EVERY_METHOD, TINY

OPTIMIZERS = (SGDSettings(weight_decay=0.01), AdamSettings(weight_decay=0.01), AdamWSettings())
GROUP = 16  # of BatchNorm
CLIP_NORM = 0.5


def main() -> None:
    dist.init_process_group("gloo")
    world = World.joined(torch.device("cpu"))
    for stage in range(4):
        for settings in OPTIMIZERS if stage < 3 else ():
            check_given_gradients(world, stage, settings)
        check_gradients_of_shards(world, stage)
    dist.barrier()
    (Path(sys.argv[1]) / f"passed-{world.rank}").touch()
    leave()


class DividesAll(Zero):
    """Engine that also divides weights of fewer than 100,000 elements in stage 3, unlike DeepSpeed by default."""

    def _config(self, clip_norm: float | None) -> dict[str, Any]:
        config = super()._config(clip_norm)
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return config


def check_given_gradients(world: World, stage: int, settings: OptimizerSettings) -> None:
    """Check that given gradients lead to the same bits as with the plain optimizer."""
    zero, alone = engines(world, stage, settings, clip_norm=None)
    assert_same(zero.state(), alone.state())
    for number in range(3):
        zero.step_with(gradients(alone.method, number))
        alone.step_with(gradients(alone.method, number))
    assert_same(zero.state(), alone.state())


def check_gradients_of_shards(world: World, stage: int) -> None:
    """Check gradients of shards up to rounding, from the state of another engine."""
    zero, alone = engines(world, stage, AdamSettings(weight_decay=0.01), CLIP_NORM)
    alone.step_with(gradients(alone.method, number=0))
    step(zero, world, number=0)  # whatever this leaves, `load` replaces it
    zero.load(copy.deepcopy(alone.state()))
    assert_same(zero.state(), alone.state())
    for number in (1, 2):
        norm, expected_norm = step(zero, world, number), step(alone, World(), number, processes=world.size)
        assert math.isclose(norm, expected_norm, rel_tol=1e-4)
        assert norm > CLIP_NORM
    assert_close(zero.state(), alone.state())

    state = copy.deepcopy(zero.state())
    assert not math.isfinite(step(zero, world, number=2, factor=math.inf))
    assert_same(zero.state(), state)
    assert math.isfinite(step(zero, world, number=3))


def engines(
    world: World, stage: int, settings: OptimizerSettings, clip_norm: float | None
) -> tuple[Zero, DataParallel]:
    own, plain = method(), method()
    rate, decay = Schedule(settings.learning_rate), Schedule(settings.weight_decay, shape="constant")
    return (
        DividesAll(own, build_optimizer(settings, own.parameter_groups(rate, decay)), world, stage, clip_norm),
        DataParallel(plain, build_optimizer(settings, plain.parameter_groups(rate, decay)), World(), clip_norm),
    )


def method() -> Method:
    mapping = configs.overridden(TINY, EVERY_METHOD["both on simsiam"])
    built = build_method(configs.parse(mapping, "test"), RANDOM_START, classes=(24, 6))
    train_unfrozen(built)
    return built


def gradients(like: Method, number: int) -> list[Tensor]:
    """Return gradients of all magnitudes of fp32, including 0 and -0."""
    generator = torch.Generator().manual_seed(number)

    def gradient(shape: torch.Size) -> Tensor:
        size = 10.0 ** torch.randint(-45, 2, shape, generator=generator)
        return torch.randn(shape, generator=generator) * size * torch.randint(0, 3, shape, generator=generator)

    return [gradient(parameter.shape) for parameter in like.trained_parameters()]


def step(engine: Engine, world: World, number: int, factor: float = 1.0, processes: int = 1) -> float:
    """Take one step of two shards per process, or of the shards of `processes` processes."""
    shards = list(batch(number, 2 * GROUP * max(world.size, processes)).shards(GROUP))
    shards = shards[world.share(len(shards))]
    others, predictor = engine.parameter_groups
    others["lr"], predictor["lr"] = 0.001 * (1 + number), 0.01
    with frozen_batch_norm_statistics(engine.method):
        for index, shard in enumerate(shards):
            last = index == len(shards) - 1
            online = engine.online(shard, None, last)
            squares = [value.square().sum() for value in online.values() if value.requires_grad]
            engine.backward(factor * torch.stack(squares).sum(), last)
    return float(engine.step())


def batch(number: int, images: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    first, second, original = (torch.randn(images, 3, 16, 16, generator=generator) for _ in range(3))
    return Batch(number, torch.arange(images), torch.zeros(images, 2, dtype=torch.int64), (first, second), original)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Check that two states are identical in bits, signs of zeros and order."""
    assert list(found["method"]) == list(expected["method"])
    assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]
    assert list(found["optimizer"]["state"]) == list(expected["optimizer"]["state"])
    for (name, one), other in zip(tensors(found).items(), tensors(expected).values(), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes(), name


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for part in ("method", "optimizer"):
        one, other = (
            torch.cat([value.double().flatten() for name, value in tensors(state).items() if name.startswith(part)])
            for state in (found, expected)
        )
        assert (one - other).norm() <= 1e-4 * other.norm(), part


def tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    weights = {f"method.{name}": value for name, value in state["method"].items()}
    moments = {
        f"optimizer.{number}.{name}": value
        for number, values in state["optimizer"]["state"].items()
        for name, value in values.items()
    }
    return weights | moments


if __name__ == "__main__":
    main()
