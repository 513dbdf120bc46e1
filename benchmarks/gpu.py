"""`python -m benchmarks.gpu OUT`: what a step does on this machine's GPU, in about four minutes, on data made here.

ResNet-50 at 224 px, a global batch of 128, the settings of the paper preset. Writes OUT/gpu.json and OUT/gpu.md: images
a second and share of the device's own matrix rate by method and precision, compiled or not, beside a bare loop; memory;
what a step launches, copies and waits for; how long it waits for images; whether `exact` leaves equal bits twice.
Needs torch, torchvision, timm, accelerate, h5py, numpy, Pillow, pydantic and ruamel.yaml; `--toy` runs it on a CPU.
"""

import argparse
import gc
import itertools
import json
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.step import MadeImages, Watched, config_with, made_up, make_trainer
from fgssl import device as devices
from fgssl.data.loader import RawBatch, training_batches
from fgssl.encoders import batch_norm
from fgssl.interruption import Interruption
from fgssl.settings.config import Config
from fgssl.training import checkpoint
from fgssl.training.reporter import Listener
from fgssl.training.trainer import Trainer

METHODS = {
    "mocov2": "method=MOCO",
    "simsiam": "method={name: simsiam}",
    "hcl": "method={name: hcl}",
    "synthesized": "method={name: synthesized, base: MOCO, bank_size: 1024}",
}
MOCO = "{name: mocov2, hidden_width: 2048, projection_width: 128, queue_size: 65536}"
TOY_MOCO = "{name: mocov2, hidden_width: 16, projection_width: 8, queue_size: 128}"
PRECISIONS = ("bf16", "tf32", "fp32")
PAPER = ("encoder.name=resnet50", "views.image_size=224", "decoder.name=mirrored_resnet50")
TOY = (
    "encoder={name: resnet18, batch_norm_group_size: 8, arguments: {channels: [8, 8, 8, 8], layers: [1, 1, 1, 1]}}",
    "views.image_size=32",
    "decoder={name: light, width: 8}",
)


@dataclass
class Bench:
    """Parameters of the benchmark, and its results so far."""

    device: str
    batch: int
    steps: int
    base: tuple[str, ...]
    moco: str
    out: Path
    ends_at: float
    found: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, needs_s: float, measure: Callable[..., Any], *arguments: Any) -> None:
        """Record the result of `measure` or its error; skip a part that may not end in time."""
        if time.monotonic() + needs_s > self.ends_at:
            self.found[name] = {"not run": "the time was up"}
        else:
            began = time.monotonic()
            try:
                self.found[name] = measure(*arguments)
            except Exception as error:
                traceback.print_exc()
                self.found[name] = {"failed": f"{type(error).__name__}: {str(error)[:500]}"}
            print(f"[{time.monotonic() - began:5.1f} s] {name}: {json.dumps(self.found[name])[:600]}", flush=True)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu.json").write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------------------------------- one step

    def config(self, method: str, *overrides: str) -> Config:
        """Return the config of a method, with these overrides."""
        batch = (f"training.global_batch_size={self.batch}", f"resources.device={self.device}")
        return config_with(*self.base, METHODS[method].replace("MOCO", self.moco), *batch, *overrides)

    def trainer(self, config: Config) -> Trainer:
        """Return a trainer that logs every 10 of 1,000 steps."""
        trainer = make_trainer(config, devices.world(config.resources, config.training))
        trainer.total_steps, trainer.log_every_steps = 1000, 10
        return trainer

    def made_up(self, trainer: Trainer) -> RawBatch:
        """Return a batch of random images in the memory that the loader uses."""
        batch = made_up(trainer, self.batch)
        if self.device != "cuda":
            return batch
        return replace(batch, images=tuple(torch.from_numpy(one).pin_memory().numpy() for one in batch.images))

    def synchronize(self) -> None:
        """Wait for the GPU if there is one."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def steps_s(self, trainer: Trainer, batches: Iterable[RawBatch]) -> tuple[float, float]:
        """Return the seconds of the first step, and of a step after the third, between which the host does not wait."""
        marks: list[float] = []

        def marked() -> Iterator[RawBatch]:
            for batch in batches:
                if len(marks) <= 3:
                    self.synchronize()
                marks.append(time.perf_counter())
                yield batch

        train(trainer, marked())
        self.synchronize()
        return marks[1] - marks[0], (time.perf_counter() - marks[3]) / (len(marks) - 3)

    def step(self, method: str, precision: str, compiled: bool, *overrides: str) -> dict[str, float]:
        """Return milliseconds, images per second, operations and memory of a step."""
        config = self.config(method, f"training.precision={precision}", *overrides)
        trainer = self.trainer(config)
        batch = self.made_up(trainer)
        flops = self.flops(trainer, batch)
        if compiled:
            compile_networks(trainer)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        first, seconds = self.steps_s(trainer, [batch] * (3 + self.steps))
        result = {"ms": 1e3 * seconds, "images_per_s": self.batch / seconds, "tflop": flops / 1e12}
        if compiled:
            result["compile_s"] = first
        if rate := self.found.get("matrix_tflops", {}).get(precision):
            result["share_of_matrix_rate"] = flops / 1e12 / seconds / rate
        if self.device == "cuda":
            result["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return result

    def flops(self, trainer: Trainer, batch: RawBatch) -> float:
        """Return the operations of one step."""
        with Watched() as watched:
            train(trainer, [batch])
        return watched.flops

    # ------------------------------------------------------------------------------------------- the parts

    def environment(self) -> dict[str, Any]:
        """Return versions of libraries and properties of the device."""
        named: dict[str, Any] = {"torch": torch.__version__, "timm": timm.__version__, "processors": os.cpu_count()}
        if self.device == "cuda":
            properties = torch.cuda.get_device_properties(0)
            named |= {"device": properties.name, "memory_gib": properties.total_memory / 2**30}
            named |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return named

    def matrix_tflops(self) -> dict[str, float]:
        """Return the TFLOP/s of a product of square matrices by precision, the best that this device does."""
        size = 8192 if self.device == "cuda" else 512
        rates = {}
        for precision in PRECISIONS:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            left, right = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
            seconds = []
            for _ in range(12):
                self.synchronize()
                began = time.perf_counter()
                left @ right
                self.synchronize()
                seconds.append(time.perf_counter() - began)
            rates[precision] = 2 * size**3 / float(np.median(seconds[2:])) / 1e12
        torch.backends.cuda.matmul.allow_tf32 = False
        return rates

    def bare_loop(self) -> dict[str, float]:
        """Measure the mathematics of MoCo v2 alone: images on the device, BatchNorm over the batch, bf16, no checks."""
        config = self.config("mocov2")
        size, queue_size = config.views.image_size, 65536 if self.device == "cuda" else 128
        arguments: Any = config.encoder.arguments
        networks = [timm.create_model(config.encoder.name, num_classes=128, **arguments) for _ in range(2)]
        query, key = (network.to(self.device).to(memory_format=torch.channels_last) for network in networks)
        optimizer = torch.optim.SGD(query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
        views = [torch.randn(self.batch, 3, size, size, device=self.device) for _ in range(2)]
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        queue = F.normalize(torch.randn(queue_size, 128, device=self.device), dim=1)
        target = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        for number in range(3 + self.steps):
            if number == 3:
                self.synchronize()
                began = time.perf_counter()
            with torch.autocast(self.device, torch.bfloat16):
                queries = F.normalize(query(views[0]).float(), dim=1)
                with torch.no_grad():
                    keys = F.normalize(key(views[1]).float(), dim=1)
            positive = (queries * keys).sum(1, keepdim=True)
            F.cross_entropy(torch.cat([positive, queries @ queue.T], 1) / 0.2, target).backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                torch._foreach_lerp_(list(key.parameters()), list(query.parameters()), 0.001)
        self.synchronize()
        seconds = (time.perf_counter() - began) / self.steps
        return {"ms": 1e3 * seconds, "images_per_s": self.batch / seconds}

    def batch_norm(self) -> dict[str, float]:
        """Measure a grouped BatchNorm in bf16, forward and backward: groups at once if a GPU can, and one by one."""
        layer = batch_norm.GroupedBatchNorm2d(torch.nn.BatchNorm2d(64), self.batch // 4).to(self.device)
        side = 56 if self.device == "cuda" else 8
        images = torch.randn(self.batch, 64, side, side, device=self.device, dtype=torch.bfloat16)
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
        gradient = torch.randn_like(images)
        result, found = {"by kernels": float(self.device == "cuda" and batch_norm._kernels() is not None)}, []
        for name, fits in (("at once", True), ("one by one", False)):
            layer._fits_kernels = lambda input, fits=fits: fits and input.is_cuda  # type: ignore[method-assign, misc]
            seconds = []
            for _ in range(3 + self.steps):
                self.synchronize()
                began = time.perf_counter()
                normalized = layer(images)
                (of_images,) = torch.autograd.grad(normalized, images, gradient)
                self.synchronize()
                seconds.append(time.perf_counter() - began)
            result[f"{name}, ms in all"] = 1e3 * float(np.median(seconds[3:]))
            found.append((normalized.detach().float(), of_images.float()))
        for name, one, other in zip(("output", "gradient"), *found, strict=True):
            result[f"largest difference of the {name}"] = float((one - other).abs().max())
        return result

    def profiled(self, method: str) -> dict[str, Any]:
        """Return the launches, copies and waits of one step in bf16, and the kernels and calls that take its time."""
        trainer = self.trainer(self.config(method, "training.precision=bf16"))
        batch = self.made_up(trainer)
        train(trainer, [batch] * 3)
        lines = waits(trainer, batch) if self.device == "cuda" else Counter()
        activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (self.device == "cuda")]
        with profile(activities=activities) as recorded:
            train(trainer, [batch])
            self.synchronize()
        events = recorded.key_averages()
        count = {name: sum(event.count for event in events if name in event.key) for name in RUNTIME_CALLS}
        kernels = [(event.key[:90], event.count, event.self_device_time_total / 1e3) for event in events]
        kernels = sorted((one for one in kernels if one[2] > 0), key=lambda one: -one[2])
        host = sorted(((e.key[:60], e.count, e.self_cpu_time_total / 1e3) for e in events), key=lambda one: -one[2])
        return {
            "calls": count,
            "host_waits": sum(lines.values()),
            "host_waits_by_line": dict(lines.most_common(40)),
            "device_ms": sum(one[2] for one in kernels if not one[0].startswith(("aten::", "ProfilerStep"))),
            "device_ms_by_kernel": kernels[:40],
            "host_ms_by_call": host[:25],
        }

    def loading(self, threads: int) -> dict[str, float]:
        """Measure MoCo v2 in bf16 on JPEGs of 256 px in memory."""
        config = self.config("mocov2", "training.precision=bf16")
        trainer, images = self.trainer(config), MadeImages(8 * self.batch)
        waited = []

        def batches() -> Iterator[RawBatch]:
            made = training_batches(
                images,
                config.views,
                num_views=2,
                with_original=False,
                seed=0,
                steps=range(3 + 2 * self.steps),
                global_batch_size=self.batch,
                images_per_class=None,
                threads=threads,
                pinned=self.device == "cuda",
            )
            while True:
                began = time.perf_counter()
                batch = next(made, None)
                waited.append(time.perf_counter() - began)
                if batch is None:
                    return
                yield batch

        _, seconds = self.steps_s(trainer, batches())
        return {"images_per_s": self.batch / seconds, "waited_share": float(np.mean(waited[3:])) / seconds}

    def exact_twice(self, method: str) -> dict[str, Any]:
        """Return whether two trainings under `exact` end in equal bits."""
        hashes = []
        for _ in range(2):
            trainer = self.trainer(self.config(method, "training.invariant=exact", "training.precision=bf16"))
            train(trainer, [self.made_up(trainer)] * 3)
            hashes.append(checkpoint.state_sha256(trainer.engine.state()))
        return {"equal bits": hashes[0] == hashes[1]}


RUNTIME_CALLS = (
    "cudaLaunchKernel",
    "cuLaunchKernel",
    "cudaMemcpyAsync",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "Memcpy HtoD (Pageable",
    "Memcpy HtoD (Pinned",
    "Memcpy DtoH",
)


def train(trainer: Trainer, batches: Iterable[RawBatch]) -> None:
    """Train on `batches` from step 0."""
    trainer.step = 0
    trainer.train(lambda steps: batches, Listener(), lambda state: None, Interruption())


def compile_networks(trainer: Trainer) -> None:
    """Compile the networks of the method."""
    for module in trainer.engine.method.children():
        for network in (module, *module.children()) if hasattr(module, "online") else (module,):
            network.compile()


def waits(trainer: Trainer, batch: RawBatch) -> Counter[str]:
    """Count how often each line of fgssl makes the host wait for the device within one step."""
    lines: Counter[str] = Counter()

    def note(*warning: Any, **keywords: Any) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/fgssl/" in frame.filename]
        last = frames[-1] if frames else traceback.extract_stack()[-2]
        lines[f"{Path(last.filename).name}:{last.lineno} {(last.line or '')[:70]}"] += 1

    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train(trainer, [batch])
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = shown
    return lines


def table(found: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = [f"{found['environment']}", "", f"matrix products, TFLOP/s: {found.get('matrix_tflops')}", ""]
    lines += ["| step | ms | images/s | share of the matrix rate | peak GiB |", "|---|---:|---:|---:|---:|"]
    for name, values in found.items():
        if "ms" in values:
            share, peak = values.get("share_of_matrix_rate"), values.get("peak_gib")
            cells = [f"{values['ms']:.1f}", f"{values['images_per_s']:,.0f}"]
            cells += ["" if share is None else f"{share:.0%}", "" if peak is None else f"{peak:.1f}"]
        elif name.startswith("step "):
            cells = [str(values)[:80], "", "", ""]
        else:
            continue
        lines.append(f"| {name.removeprefix('step ')} | {' | '.join(cells)} |")
    for name, values in found.items():
        if name.startswith(("profile", "loading", "exact", "batch norm")):
            lines += ["", f"**{name}**: {json.dumps(values)[:3000]}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--toy", action="store_true", help="a small network on the CPU, to try the script")
    parser.add_argument("--limit-s", type=float, default=250.0)
    arguments = parser.parse_args()
    if not arguments.toy and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here; `--toy` runs the script on a CPU")
    setup = ("cpu", 16, 1, TOY, TOY_MOCO) if arguments.toy else ("cuda", 128, 10, PAPER, MOCO)
    bench = Bench(*setup, arguments.out, time.monotonic() + arguments.limit_s)
    bench.part("environment", 0, bench.environment)
    bench.part("matrix_tflops", 5, bench.matrix_tflops)
    bench.part("step bare loop, mocov2 bf16", 10, bench.bare_loop)
    bench.part("batch norm", 10, bench.batch_norm)
    for method in METHODS:
        bench.part(f"step {method} bf16", 20, bench.step, method, "bf16", False)
    for method in ("mocov2", "synthesized"):
        bench.part(f"profile {method}", 20, bench.profiled, method)
    for method in ("mocov2", "synthesized"):
        bench.part(f"exact {method}", 25, bench.exact_twice, method)
    bench.part("loading with 8 threads", 20, bench.loading, 8)
    if not arguments.toy:
        bench.part("step mocov2 bf16 compiled", 90, bench.step, "mocov2", "bf16", True)
        for precision, method in itertools.product(("tf32", "fp32"), METHODS):
            bench.part(f"step {method} {precision}", 20, bench.step, method, precision, False)
    (arguments.out / "gpu.md").write_text(table(bench.found), encoding="utf-8")
    print(table(bench.found))


if __name__ == "__main__":
    main()
