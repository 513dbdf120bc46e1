"""Construction of the engine from its settings."""

from fgssl.collectives import World
from fgssl.methods.method import Method, ParameterGroup
from fgssl.settings.training import ResourceSettings, TrainingSettings
from fgssl.training.engines.ddp import DataParallel
from fgssl.training.engines.engine import Engine
from fgssl.training.engines.exact import Exact
from fgssl.training.optim import build_optimizer


def build_engine(
    method: Method,
    groups: list[ParameterGroup],
    training: TrainingSettings,
    resources: ResourceSettings,
    world: World,
) -> Engine:
    """Return the engine that trains the `groups` of `method`, which is on its device with equal weights everywhere."""
    optimizer = build_optimizer(training.optimizer, groups)
    exact, clip_norm = training.invariant == "exact", training.gradient_clip_norm
    if resources.engine == "ddp":
        if exact:
            return Exact(DataParallel(method, optimizer, World(device=world.device)), world, clip_norm)
        return DataParallel(method, optimizer, world, clip_norm, scales_gradient=training.precision == "fp16")
    from fgssl.training.engines.zero import Zero  # deepspeed is an optional dependency, and takes seconds to import

    stage = int(resources.engine.removeprefix("zero"))
    if exact:
        return Exact(Zero(method, optimizer, world, stage), world, clip_norm)
    return Zero(method, optimizer, world, stage, clip_norm)
