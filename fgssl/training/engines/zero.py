"""Engines `zero0` to `zero3`: DeepSpeed's ZeRO, which divides training state among the processes.

Stage 1 divides the optimizer's state, stage 2 also the gradient, stage 3 also the weights. DeepSpeed is called
directly, since Accelerate's interface to it imports transformers.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World
from fgssl.errors import UserError
from fgssl.methods.method import Method
from fgssl.training.engines.engine import Engine, State, TorchGroup, start_state, worth_a_step

_OLDEST = (0, 19, 8)
"""Oldest supported version. Older ones compute wrong gradients of several shards (0.18.1, stage 2) and take steps that
are not finite."""
_LOGGER = logging.getLogger("DeepSpeed")
_LARGEST_BUCKET = 50_000_000
"""Largest number of elements that are reduced at once, for which DeepSpeed reserves memory."""


class Zero(Engine):
    """Engine by DeepSpeed; weights, exchanged gradients and optimizer are fp32 under any autocast."""

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        world: World,
        stage: int,
        clip_norm: float | None = None,
    ) -> None:
        """Take over `method` and `optimizer`, which must not have taken a step yet.

        Raise a `UserError` for a target network under stage 3, where each process holds parts of the weights that its
        moving average would need whole.
        """
        if stage == 3 and method.target_views:
            raise UserError("resources.engine zero3 cannot train a method with a target network; take zero2 or ddp")
        self.method, self._world, self._stage = method, world, stage
        self._plain_groups = optimizer.state_dict()["param_groups"]  # holds numbers in the place of parameters
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        self._parameters = [parameter for group in self._groups for parameter in group]
        self._zero = _deepspeed(world)
        method.to(memory_format=torch.contiguous_format)  # DeepSpeed copies weights flat; images stay channels last
        _LOGGER.setLevel(logging.ERROR)  # without its warnings of an optimizer that it was not tested with
        self._engine, *_ = self._zero.initialize(
            SimpleNamespace(device_rank=world.device.index or 0),
            model=method,
            optimizer=optimizer,
            config=self._config(clip_norm),
        )
        _LOGGER.setLevel(logging.WARNING)
        world.share_patience()
        self._optimizer = optimizer  # it now holds the partitions of this process
        if stage == 3:
            with self._partitions():
                start_state(optimizer)
        else:
            start_state(optimizer)

    def _config(self, clip_norm: float | None) -> dict[str, Any]:
        trained = sum(parameter.numel() for parameter in self._parameters)
        bucket = min(trained + trained % 2, _LARGEST_BUCKET)
        return {
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed requires it, but does not use it here
            "gradient_accumulation_steps": 1,  # `last` marks the last backward pass of a step instead
            "gradient_clipping": clip_norm or 0.0,
            "zero_allow_untested_optimizer": True,  # this package tests SGD
            "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own optimizer would need a compiler
            "zero_optimization": {
                "stage": self._stage,
                "reduce_bucket_size": bucket,
                "allgather_bucket_size": bucket,
            },
            "timers": {"throughput": {"enabled": False}},  # each timer would wait for the GPU
        }

    @property
    def parameter_groups(self) -> list[TorchGroup]:
        """Groups of the optimizer."""
        return self._optimizer.param_groups

    # ------------------------------------------------------------------------------------ per step

    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Return the embeddings of one shard."""
        # The engine's own forward would turn off an autocast around it. The flag below is all that is needed of it: it
        # counts the shards of a step for the division of gradients.
        if self._stage and torch.is_grad_enabled():
            self._engine.optimizer.clear_backward_seen_flag()
        return self.method(shard, target)

    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Add the gradient of one shard's scalar; DeepSpeed reduces gradients after the last shard."""
        self._engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages over processes, but the gradient is the sum.
        self._engine.backward(surrogate * self._world.size, scale_wrt_gas=False)

    def step(self) -> Tensor:
        """Take one step, and return the norm of the gradient."""
        if self._stage:
            self._engine.step()  # DeepSpeed skips the step if the norm is not finite
            return torch.as_tensor(self._engine.get_global_grad_norm(), device=self._world.device)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if worth_a_step(norm):
            self._engine.step()
        else:
            self._engine.zero_grad()
        return norm

    def step_with(self, gradients: list[Tensor]) -> None:
        """Take one step with these gradients; the engine must have no `clip_norm`.

        The step equals a plain optimizer's to the bit. DeepSpeed averages over processes, so rank 0 gives W times the
        gradient, and the others give -0, which leaves every number unchanged to which it is added.
        """
        surrogate = torch.zeros((), device=self._world.device)
        for parameter, gradient in zip(self.method.trained_parameters(), gradients, strict=True):
            own = gradient * self._world.size if self._world.rank == 0 else torch.full_like(gradient, -0.0)
            surrogate = surrogate + (parameter * own).sum()
        self._engine.set_gradient_accumulation_boundary(True)
        self._engine.backward(surrogate, scale_wrt_gas=False)
        self._engine.step()

    # -------------------------------------------------------------------------------------- state

    def state(self) -> State:
        """Return the whole state of method and optimizer, gathered from all processes."""
        with self.whole():
            method = self.method.state_dict()
            if self._stage == 3:
                method = {name: value.clone() for name, value in method.items()}
        if self._stage == 0:
            return {"method": method, "optimizer": self._optimizer.state_dict()}
        groups = [
            {name: group[name] for name in plain if name != "params"} | {"params": plain["params"]}
            for group, plain in zip(self._optimizer.param_groups, self._plain_groups, strict=True)
        ]
        whole = self._gathered_by_parameter() if self._stage == 3 else self._gathered_by_group()
        return {"method": method, "optimizer": {"state": dict(enumerate(whole)), "param_groups": groups}}

    def load(self, state: State) -> None:
        """Load a whole `state`, of which each process keeps its parts."""
        with self._whole(modified=True):
            self.method.load_state_dict(state["method"])
            weights = [parameter.detach().clone() for parameter in self._parameters]
        if self._stage == 0:
            self._optimizer.load_state_dict(state["optimizer"])
            return
        for group, saved in zip(self._optimizer.param_groups, state["optimizer"]["param_groups"], strict=True):
            group |= {name: value for name, value in saved.items() if name != "params"}
        whole = [state["optimizer"]["state"][number] for number in range(len(weights))]
        if self._stage == 3:
            self._scatter_by_parameter(weights, whole)
        else:
            self._scatter_by_group(weights, whole)

    # Stages 1 and 2 lay the weights of a group end to end, pad, and cut into one partition for each process. A sum of
    # partitions and zeros, which DeepSpeed's own functions for this make, would turn -0 into 0.

    def _gathered_by_group(self) -> Iterator[dict[str, Tensor]]:
        for parameters, group in zip(self._groups, self._optimizer.param_groups, strict=True):
            own = self._optimizer.state[group["params"][0]]
            whole = self._world.gather({name: value for name, value in own.items() if name != "step"})
            first = 0
            for parameter in parameters:
                last = first + parameter.numel()
                parts = {name: flat[first:last].view(parameter.shape) for name, flat in whole.items()}
                yield {name: value.clone() if name == "step" else parts[name] for name, value in own.items()}
                first = last

    def _scatter_by_group(self, weights: list[Tensor], whole: list[dict[str, Tensor]]) -> None:
        first = 0
        for parameters, group in zip(self._groups, self._optimizer.param_groups, strict=True):
            last = first + len(parameters)
            partition = group["params"][0]
            with torch.no_grad():
                self._cut(weights[first:last], partition)
            for name, value in self._optimizer.state[partition].items():
                if name == "step":
                    value.copy_(whole[first][name])
                else:
                    self._cut([one[name] for one in whole[first:last]], value)
            first = last

    def _cut(self, values: list[Tensor], partition: Tensor) -> None:
        flat = torch.cat([value.reshape(-1) for value in values])
        own = flat[self._world.rank * len(partition) :][: len(partition)]
        partition[: len(own)] = own

    # Stage 3 cuts each weight for itself.

    def _gathered_by_parameter(self) -> Iterator[dict[str, Tensor]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        own = next(iter(self._optimizer.state.values()))  # any partition will do, as all have taken every step
        for parameter in self._parameters:
            yield {
                name: value.clone() if name == "step" else safe_get_full_optimizer_state(parameter, name)
                for name, value in own.items()
            }

    def _scatter_by_parameter(self, weights: list[Tensor], whole: list[dict[str, Tensor]]) -> None:
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        for parameter, weight, values in zip(self._parameters, weights, whole, strict=True):
            partition = torch.zeros_like(parameter.ds_tensor)
            self._cut([weight], partition)
            safe_set_local_fp32_param(parameter, partition)
            for name, value in values.items():
                if name != "step":
                    self._cut([value], partition)
                    safe_set_local_optimizer_state(parameter, partition, name)
        for own in self._optimizer.state.values():
            if "step" in own:
                own["step"].copy_(whole[0]["step"])

    def whole(self) -> AbstractContextManager[Any]:
        """Return a context in which all weights of the method can be read; under stage 3 they are gathered."""
        return self._whole(modified=False)

    def _whole(self, modified: bool) -> AbstractContextManager[Any]:
        if self._stage < 3:
            return nullcontext()
        gathered = self._zero.zero.GatheredParameters
        return gathered(list(self.method.parameters()), modifier_rank=0 if modified else None)

    @contextmanager
    def _partitions(self) -> Iterator[None]:
        """Let the optimizer's groups hold this process's partitions in this context, as other stages always do."""
        self._engine.optimizer._set_fp32_optimizer_param_groups()
        try:
            yield
        finally:
            self._engine.optimizer._clear_fp32_optimizer_param_groups()


def _deepspeed(world: World) -> Any:
    """Return the package `deepspeed`, set up for this process's device, without compiling anything."""
    try:
        installed = metadata.version("deepspeed")
    except metadata.PackageNotFoundError:
        installed = "none"
    if tuple(int(number) for number in re.findall(r"\d+", installed)[:3]) < _OLDEST:
        raise UserError(
            f"resources.engine: zero0 to zero3 need DeepSpeed {'.'.join(map(str, _OLDEST))} or newer (installed: "
            f"{installed}): pip install 'fgssl[deepspeed]', or set it to ddp"
        )
    os.environ["DS_ACCELERATOR"] = world.device.type
    os.environ.setdefault("LOCAL_RANK", "0")
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}  # otherwise DeepSpeed compiles for a minute on the CPU
    _LOGGER.setLevel(logging.WARNING)
    if world.size == 1:  # there may be no process group, which DeepSpeed requires
        deepspeed.init_distributed(auto_mpi_discovery=False, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    return deepspeed
