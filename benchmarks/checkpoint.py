"""Cost of checkpoints to a training loop on one torch thread: `python benchmarks/checkpoint.py`.

The state is that of a ResNet-50 with SGD's momentum. The steps are those of a small network, since the cost of a save
does not depend on them. Each round runs the same steps three times: with nothing else, with `Writer`, and with a thread
that serializes into memory first. Run it on an idle machine and read the ratios; beside other work only the CPU seconds
mean anything. --folder selects the file system.
"""

import argparse
import io
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from fgssl.settings.config import Config
from fgssl.store.records import Identity
from fgssl.store.run_folder import RunFolder
from fgssl.training.checkpoint import Checkpoint, Writer

CHECKPOINT_EVERY_S = 120.0
"""Default of resources.checkpoint_every_s."""


def resnet50_state() -> dict[str, Any]:
    """Return the state of a ResNet-50 and its optimizer after one step."""
    network = timm.create_model("resnet50").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {"method": network.state_dict(), "optimizer": optimizer.state_dict(), "wall_s": 0.0}


def training_step() -> Callable[[], None]:
    """Return a function that takes one training step of a small network."""
    network = timm.create_model("resnet18", num_classes=10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(8)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def clocks(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock seconds that `work` takes, and the CPU seconds of this thread alone."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - began, time.thread_time() - cpu_began


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that `work` takes."""
    return clocks(work)[0]


def median_seconds(work: Callable[[], object], times: int = 7) -> float:
    """Return the median wall-clock seconds of `work` over some repetitions."""
    return statistics.median(seconds(work) for _ in range(times))


def print_row(name: str, values_s: list[float], note: str = "") -> None:
    """Print the median and the quartiles of `values_s`."""
    low, middle, high = statistics.quantiles(values_s, n=4)
    print(f"{name:<48} {middle:7.3f} s ({low:.3f} to {high:.3f}) {note}")


def main() -> None:
    """Run all rounds and print the costs of a save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    state, step = resnet50_state(), training_step()
    tensors = [*state["method"].values()]
    tensors += [slot["momentum_buffer"] for slot in state["optimizer"]["state"].values()]

    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as temporary,
        ThreadPoolExecutor(max_workers=1) as thread,
    ):
        folder = RunFolder(Path(temporary))
        saved = 0

        def save() -> None:
            nonlocal saved
            saved += 1
            writer.save(Checkpoint(saved, state, Identity("benchmark", "", {}), ()))

        def save_by_memory() -> None:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            with (folder.path / "state.pt").open("wb") as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())

        with folder.lease(Config()) as lease, Writer(folder.checkpoints, lease, keep=2) as writer:
            first_s = seconds(save)
            writer.wait()
            save()
            write_s = seconds(writer.wait)
            steps = math.ceil(3 * write_s / median_seconds(step))

            def train() -> None:
                for _ in range(steps):
                    step()

            plain_s, stopped_s, slowed_s, slowed_cpu_s, by_memory_s, at_once_s = [], [], [], [], [], []
            for _ in range(arguments.rounds):
                alone_s, alone_cpu_s = clocks(train)
                stopped_s.append(seconds(save))
                beside_s, beside_cpu_s = clocks(train)
                writer.wait()
                plain_s.append(alone_s)
                slowed_s.append(beside_s - alone_s)
                slowed_cpu_s.append(beside_cpu_s - alone_cpu_s)
                pending = thread.submit(save_by_memory)
                by_memory_s.append(seconds(train) - plain_s[-1])
                pending.result()
                at_once_s.append(seconds(save_by_memory))

    kept = [torch.empty_like(tensor) for tensor in tensors]
    kept_s = median_seconds(lambda: [copy.copy_(tensor) for copy, tensor in zip(kept, tensors, strict=True)])
    fresh_s = median_seconds(lambda: [tensor.clone() for tensor in tensors])
    step_s = statistics.median(plain_s) / steps
    cost_s = [stopped + slowed for stopped, slowed in zip(stopped_s, slowed_s, strict=True)]
    middle_s = statistics.median(cost_s)

    print(
        f"A state of {sum(tensor.nbytes for tensor in tensors) / 1e6:.0f} MB in {len(tensors)} tensors; torch", end=" "
    )
    print(f"{torch.__version__}, one thread, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}.")
    print(f"{arguments.rounds} rounds of {steps} steps of {step_s:.3f} s; medians (and quartiles) of one save:\n")
    print_row("Writer stops the training for", stopped_s, f"(the first one: {first_s:.3f})")
    print_row("and slows it while the thread writes, by", slowed_s)
    print_row("  of which CPU seconds of the training", slowed_cpu_s)
    print_row(
        "in all", cost_s, f"= {middle_s / CHECKPOINT_EVERY_S:.2%} of a step at one save in {CHECKPOINT_EVERY_S:.0f} s"
    )
    print_row("a thread that saves by way of memory slows it by", by_memory_s)
    print_row(
        "saving so without a thread stops it for",
        at_once_s,
        f"= {statistics.median(at_once_s) / middle_s:.1f} × Writer",
    )
    print(f"\nSaves cost 5% of a step if there is one in {middle_s / 0.05:.1f} s.")
    print(f"Copying into memory that is kept takes {kept_s:.3f} s, into new memory {fresh_s / kept_s:.1f} × as long.")


if __name__ == "__main__":
    main()
