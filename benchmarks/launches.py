"""Count what a training step makes a GPU and the host do, on a machine without a GPU.

`python -m benchmarks.launches` prints a table of methods at the size of preset `paper`. The forward passes, the losses,
the optimizer and the updates run on tensors without values that call themselves `cuda:0`. The backward passes are left
out, since autograd needs a device. Only the kernels of BatchNorm have a backward pass of ours, and it waits for
nothing.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import optimizer
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.step import CLASSES, config_with, made_up
from fgssl.collectives import World
from fgssl.encoders import batch_norm
from fgssl.interruption import Interruption
from fgssl.methods.build import RANDOM_START, build_method
from fgssl.run import training
from fgssl.settings.config import Config
from fgssl.training.finite import FiniteCheck
from fgssl.training.reporter import Listener

STEPS = 3
"""Steps that are taken; the last one is counted, since the first uploads constants and the queue of losses fills."""
NO_KERNEL = (
    "aten::detach",
    "aten::empty",
    "aten::empty_like",
    "aten::new_empty",
    "aten::empty_strided",
    "prim::device",
)

METHODS = {
    "mocov2": ("method={name: mocov2}",),
    "simsiam": ("method={name: simsiam}",),
    "hcl": ("method={name: hcl}",),
    "cross_entropy": ("method={name: cross_entropy}",),
    "decoder": ("method={name: decoder}",),
    "synthesized on mocov2": ("method={name: synthesized}",),
    "hcl, ViT-B": ("method={name: hcl}", "encoder.name=vit_base_patch16_224"),
    "mocov2, micro-batch 64": ("method={name: mocov2}", "resources.micro_batch_size=64"),
    "mocov2, exact": ("method={name: mocov2}", "training.invariant=exact"),
}


class Launches(TorchDispatchMode):
    """Context that counts kernels, uploads and waits of what runs in it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.uploads = 0
        self.waits = Counter[str]()
        """Number of waits by the line that waits."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        result = function(*arguments, **keywords)  # raises if the host needs a value
        tensors = [leaf for leaf in tree_leaves((arguments, keywords, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.ndim or function._opname == "_to_copy"}
        if len(devices) > 1:
            self.uploads += 1
            if not keywords.get("non_blocking"):
                self.waits[f"{function} in {_line()}"] += 1
        elif devices == {"cuda"} and not function.is_view and function.name().split(".")[0] not in NO_KERNEL:
            self.kernels += 1
        return result


def _line() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/fgssl/" in frame.filename]
    return f"{frames[-1].filename.split('/fgssl/')[-1]}:{frames[-1].lineno}"


def launches(config: Config) -> Launches:
    """Return the counts of one step of the config's method."""
    method = build_method(config, RANDOM_START, CLASSES)
    size = config.views.image_size
    method.prepare(lambda number: [torch.randn(config.encoder.batch_norm_group_size, 3, size, size)])
    with _no_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        _move(method)
        world = World(device=torch.device("cuda:0"))
        trainer = training.make_trainer(config, world, method, STEPS * config.training.global_batch_size)
        trainer.checkpoint_every_s, trainer.log_every_steps = float("inf"), STEPS + 1
        trainer.total_steps = STEPS + 1
        counted = Launches()

        def batches(steps: range) -> Iterator[Any]:
            batch = made_up(trainer, config.training.global_batch_size)
            yield from [batch] * (STEPS - 1)
            with counted:
                yield batch

        trainer.train(batches, Listener(), lambda state: None, Interruption())
    return counted


def _move(method: nn.Module) -> None:
    """Replace all weights and buffers by tensors of `cuda:0` without values."""
    for module in method.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(_on_gpu(weight), weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _on_gpu(buffer)


def _on_gpu(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cuda", requires_grad=False)


@contextlib.contextmanager
def _no_gpu() -> Iterator[None]:
    """Stand in for what needs a device: pinned memory, events, backward passes and the kernels of BatchNorm."""
    with contextlib.ExitStack() as stack:
        for owner, name, stand_in in (
            (Tensor, "pin_memory", lambda tensor: tensor),
            (Tensor, "backward", _backward),
            (nn.Module, "_apply", lambda module, function, recurse=True: module),  # weights were moved already
            (torch.cuda, "Event", mock.MagicMock),
            (torch.autograd, "grad", _grad),
            (FiniteCheck, "_look", lambda check, all_but: None),
            (batch_norm, "_kernels", _Kernels),
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        for kinds in (_foreach_utils._foreach_supported_types, optimizer._foreach_supported_types):
            kinds.append(FakeTensor)
            stack.callback(kinds.remove, FakeTensor)
        yield


def _backward(loss: Tensor) -> None:
    """Give all leaves of the graph a gradient."""
    seen, found = set[Any](), [loss.grad_fn]
    while found:
        node = found.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if (leaf := getattr(node, "variable", None)) is not None:
                leaf.grad = torch.empty_like(leaf)
            found += [following for following, _ in node.next_functions]


def _grad(output: Tensor, inputs: Tensor | Sequence[Tensor], **options: object) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(one) for one in ([inputs] if isinstance(inputs, Tensor) else inputs))


class _Kernels:
    @staticmethod
    def grouped_batch_norm(
        input: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Launch two kernels and return tensors of the right shapes."""
        return input * 1, torch.zeros(2, groups, input.shape[1], device=input.device)


def main() -> None:
    """Print a table of methods at the size of preset `paper`."""
    print("| method | kernels without the backward pass | uploads | waits |\n|---|---:|---:|---:|")
    for name, overrides in METHODS.items():
        config = config_with("encoder.name=resnet50", "decoder.name=mirrored_resnet50", *overrides)
        counted = launches(config)
        print(f"| {name} | {counted.kernels:,} | {counted.uploads} | {sum(counted.waits.values())} |", flush=True)


if __name__ == "__main__":
    main()
