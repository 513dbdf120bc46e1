"""Training loop, which is given objects and reads no settings file."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from fgssl import randomness
from fgssl.batch import Batch, Output
from fgssl.collectives import World
from fgssl.data.loader import RawBatch
from fgssl.encoders.freezing import train_unfrozen
from fgssl.interruption import Interruption
from fgssl.methods.method import ParameterGroup
from fgssl.settings.training import TrainingSettings
from fgssl.training.crop_boxes import CropBoxes
from fgssl.training.engines.engine import Engine, State
from fgssl.training.finite import FiniteCheck
from fgssl.training.grad_cache import Autocast, GradCache, Shuffled
from fgssl.training.reporter import Listener
from fgssl.upload import upload
from fgssl.views.maker import ViewMaker

Monitor = Callable[[int], dict[str, float]]
"""Function from the number of steps done to further metrics, or to none; all processes call it after every step."""


def no_monitor(step: int) -> dict[str, float]:
    """Return no metrics."""
    return {}


@dataclass
class Trainer:
    """Training of one method; every process has an equal one, on its own share of the images."""

    engine: Engine
    groups: list[ParameterGroup]
    """Groups of the engine's optimizer, in its order."""
    world: World
    settings: TrainingSettings
    views: ViewMaker
    seed: int
    total_steps: int
    shard_size: int
    """Number of images that go through the networks at once."""
    autocast: Autocast
    log_every_steps: int
    checkpoint_every_s: float
    crop_boxes: CropBoxes | None = None
    """Boxes around the objects, in which views are cropped; None if they are cropped anywhere."""
    monitor: Monitor = no_monitor
    step: int = 0
    """Number of steps done."""
    wall_s: float = 0.0
    """Seconds of training, over all processes that have continued it."""

    def __post_init__(self) -> None:
        self._skips = self.settings.precision == "fp16"
        self._finite = FiniteCheck(overflow_is_skipped=self._skips)

    def train(
        self,
        batches: Callable[[range], Iterable[RawBatch]],
        listener: Listener,
        save: Callable[[State], None],
        interruption: Interruption,
        last_step: int | None = None,
    ) -> None:
        """Train from `self.step` to the end.

        Args:
            batches: Function from a range of steps to this process's shares of their batches.
            listener: Receiver of metrics and progress.
            save: Function that is called with the state every `checkpoint_every_s` seconds and before an interruption.
            interruption: Signals; all processes leave together at the next step.
            last_step: Step after which the training is interrupted, if it comes before the end.

        Raises:
            Interrupted: A signal or `last_step` stopped the training, after its state was saved.
            NonFiniteError: The loss or the gradient is not finite.
        """
        method = self.engine.method
        train_unfrozen(method)
        grad_cache = GradCache(self.world, self.shard_size, self.settings.invariant == "exact", self.autocast)
        began = time.monotonic() - self.wall_s
        saved_step, saved_at = self.step, time.monotonic()
        if last_step is not None and last_step <= self.step < self.total_steps:
            interruption.ask()
            interruption.leave(interruption.received)
        for raw in self._batches(batches):
            # ------------------------------------------------------------------ images to the device, views
            batch, shuffled = self._batch(raw), self._shuffled(raw)

            # ------------------------------------------------------------------ learning rate, weight decay
            progress = raw.step / self.total_steps
            self._schedule(progress)

            # ------------------------------------------------------------------ gradient of the global batch, one step
            output, online, target = grad_cache.accumulate_gradient(self.engine, batch, shuffled, progress)
            self._finite.add(raw, output.loss, self.engine.step())
            method.after_step(online, target, progress)
            self.step = raw.step + 1
            self.wall_s = time.monotonic() - began

            # ------------------------------------------------------------------ report
            monitored = self.monitor(self.step)
            if monitored or self.step % self.log_every_steps == 0 or self.step == self.total_steps:
                listener.log(self.step, self._metrics(raw, output, progress) | monitored)
            listener.advance(self.step, self._finite.loss)

            # ------------------------------------------------------------------ save: all processes, or none
            if self.step == last_step:
                interruption.ask()
            due = time.monotonic() - saved_at >= self.checkpoint_every_s and self.step < self.total_steps
            stop, due_on_first = self.world.agree_max([interruption.received, due and self.world.rank == 0])
            if due_on_first or (stop and self.step > saved_step):
                self._finite.now()
                save(self.state())
                saved_step, saved_at = self.step, time.monotonic()
            interruption.leave(stop)
        self._finite.finish(self.total_steps)

    def _batches(self, batches: Callable[[range], Iterable[RawBatch]]) -> Iterator[RawBatch]:
        """Yield the batches of all steps to do; those whose crops need new boxes are begun when these are found."""
        steps = range(self.step, self.total_steps)
        for part in [steps] if self.crop_boxes is None else self.crop_boxes.periods(steps):
            yield from batches(part)

    def _metrics(self, raw: RawBatch, output: Output, progress: float) -> dict[str, float]:
        finite = self._finite
        finite.now()
        metrics = {name: float(value) for name, value in output.metrics.items()}
        skipped = {"skipped_steps": finite.skipped_steps} if self._skips else {}
        step = {"epoch": raw.epoch, "loss": finite.loss, **metrics, "gradient_norm": finite.gradient_norm, **skipped}
        return {**step, "learning_rate": self.groups[0].learning_rate.at(progress)}

    def _schedule(self, progress: float) -> None:
        """Set the learning rate and the weight decay of each parameter group."""
        for group, scheduled in zip(self.engine.parameter_groups, self.groups, strict=True):
            group["lr"] = scheduled.learning_rate.at(progress)
            group["weight_decay"] = scheduled.weight_decay.at(progress)

    def state(self) -> State:
        """Return the state after the steps done so far; all processes must call it."""
        finite = self._finite
        skipped = {"skipped": (finite.skipped_steps, finite.skipped_in_a_row)} if self._skips else {}
        boxes = None if self.crop_boxes is None else self.crop_boxes.boxes
        found = {} if boxes is None else {"crop_boxes": torch.from_numpy(boxes)}
        return {**self.engine.state(), "wall_s": self.wall_s, **skipped, **found}

    def resume(self, step: int, state: State) -> None:
        """Continue after `step` steps from a `state`."""
        self.engine.load(state)
        self.step, self.wall_s = step, state["wall_s"]
        if "skipped" in state:
            self._finite.skipped_steps, self._finite.skipped_in_a_row = state["skipped"]
        if self.crop_boxes is not None and "crop_boxes" in state:
            self.crop_boxes.boxes = state["crop_boxes"].numpy()

    # ------------------------------------------------------------------------------- images of both branches

    def _batch(self, raw: RawBatch) -> Batch:
        """Return this process's share of the batch."""
        method, device = self.engine.method, self.world.device
        views = tuple(
            self.views.view(upload(raw.images[view], device), view, raw.view_key, raw.rows)
            for view in method.online_views
        )
        original = self.views.original(upload(raw.images[-1], device)) if method.needs_original else None
        return Batch(raw.step, upload(raw.rows, device), upload(raw.labels, device), views, original)

    def _shuffled(self, raw: RawBatch) -> Shuffled | None:
        """Return this process's share of the shuffled batch, whose crops are exchanged as bytes and colored here."""
        numbers = self.engine.method.target_views
        if not numbers:
            return None
        order = randomness.permutation(self.seed, "key_shuffle", raw.step, length=len(raw.global_rows))
        rows = raw.global_rows[order[self.world.share(len(order))]]
        own = [upload(raw.images[view], self.world.device) for view in numbers]
        packed = torch.cat([crops.flatten(1) for crops in own], dim=1)  # (n, bytes): one message for all views
        received = self.world.shuffled(packed, order).split([crops[0].numel() for crops in own], dim=1)
        views = (
            self.views.view(flat.reshape(-1, *crops.shape[1:]), view, raw.view_key, rows)
            for view, flat, crops in zip(numbers, received, own, strict=True)
        )
        return Shuffled(tuple(views), order)
