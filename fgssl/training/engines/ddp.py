"""Engine `ddp`: each process holds everything, and DistributedDataParallel sums gradients during the backward pass."""

import inspect

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fgssl.batch import Batch, Embeddings
from fgssl.collectives import World
from fgssl.methods.method import Method
from fgssl.training.engines.engine import Engine, State, TorchGroup, start_state, worth_a_step

_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else "broadcast_buffers"  # torch before 2.13
)


class DataParallel(Engine):
    """Engine whose processes each hold the whole method and optimizer; with one process these are used as they are."""

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        world: World,
        clip_norm: float | None = None,
        scales_gradient: bool = False,
    ) -> None:
        """Hold `method` and `optimizer`; scale gradients for fp16, whose smallest numbers are too large for them."""
        self.method, self.optimizer, self._world = method, optimizer, world
        self._clip_norm = clip_norm
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=scales_gradient)
        self._parallel = None
        if world.size > 1 and method.trained_parameters():
            # Weights and buffers are equal already, and every process updates buffers equally.
            self._parallel = DistributedDataParallel(
                method,
                init_sync=False,
                gradient_as_bucket_view=True,
                **{_SYNC_BUFFERS: False},  # type: ignore[arg-type]
            )
        start_state(optimizer)

    @property
    def parameter_groups(self) -> list[TorchGroup]:
        """Groups of the optimizer."""
        return self.optimizer.param_groups

    def online(self, shard: Batch, target: Tensor | None, last: bool) -> Embeddings:
        """Return the embeddings of one shard; gradients are reduced in the backward pass of the last shard."""
        if self._parallel is None or not torch.is_grad_enabled():
            return self.method(shard, target)
        self._parallel.require_backward_grad_sync = last
        return self._parallel(shard, target)

    def backward(self, surrogate: Tensor, last: bool) -> None:
        """Add the gradient of one shard's scalar, scaled if the precision is fp16."""
        self._scaler.scale(surrogate).backward()

    def step(self) -> Tensor:
        """Unscale and clip the gradient, take one step, and return the norm before clipping."""
        if self._parallel is not None:  # it averages over processes, but the gradient is the sum
            torch._foreach_mul_(self._gradients(), self._world.size)
        self._scaler.unscale_(self.optimizer)
        norm = self._clip()
        if self._scaler.is_enabled() or worth_a_step(norm):  # the scaler itself skips a step that overflowed
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def step_with(self, gradients: list[Tensor]) -> None:
        """Take one step with these gradients."""
        for parameter, gradient in zip(self.method.trained_parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self) -> Tensor:
        norm = torch.nn.utils.get_total_norm(self._gradients())
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.method.trained_parameters(), self._clip_norm, norm)
        return norm

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.method.trained_parameters() if parameter.grad is not None]

    def state(self) -> State:
        """Return the state dicts of method and optimizer, and of the scaler if there is one."""
        state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        return state

    def load(self, state: State) -> None:
        """Load a `state`."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
