"""Check that stops a training at the first step whose loss or gradient is not finite, without making a GPU wait."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from fgssl.data.loader import RawBatch
from fgssl.errors import NonFiniteError

MOST_SKIPPED = 50
"""Steps in a row that fp16 may skip: its scale starts at 65,536 and is halved each time, so the first ones may be."""


@dataclass(frozen=True)
class _Sent:
    """Loss and gradient norm of a step, (2,) float64, on their way to the host."""

    batch: RawBatch
    numbers: Tensor
    arrived: torch.cuda.Event | None

    def look(self) -> tuple[float, float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        loss, gradient_norm = self.numbers.tolist()
        return loss, gradient_norm


class FiniteCheck:
    """Check of the loss and the gradient norm of each step.

    On a CPU a step is checked at once; on a GPU it is checked after the next step is queued, or at `now`. The first
    step is always checked at once. Logging, saving and exporting call `now` first, so that nothing of a failed step is
    kept.
    """

    def __init__(self, overflow_is_skipped: bool) -> None:
        """Accept up to `MOST_SKIPPED` infinite norms in a row if `overflow_is_skipped`: fp16 takes no step then."""
        self._overflow_is_skipped = overflow_is_skipped
        self._sent: deque[_Sent] = deque()
        self.skipped_steps = 0
        """Number of steps that fp16 skipped, over all processes that have continued the training."""
        self.skipped_in_a_row = 0
        """Number of steps that fp16 skipped since the last one that was taken."""
        self.loss = self.gradient_norm = math.nan
        """Loss and gradient norm of the last step that was checked."""

    def add(self, batch: RawBatch, loss: Tensor, gradient_norm: Tensor) -> None:
        """Record one more step; raise a `NonFiniteError` if a step that is checked now has failed."""
        numbers, arrived = torch.stack([loss.detach().double(), gradient_norm.double()]), None
        on_gpu = numbers.device.type == "cuda"
        if on_gpu:
            numbers, arrived = numbers.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self._sent.append(_Sent(batch, numbers, arrived))
        self._look(all_but=1 if on_gpu and math.isfinite(self.loss) else 0)

    def now(self) -> None:
        """Check every step so far; the host waits for the GPU."""
        self._look(all_but=0)

    def finish(self, total_steps: int) -> None:
        """Check every step so far, and raise a `NonFiniteError` if all `total_steps` were skipped."""
        self.now()
        if total_steps and self.skipped_steps == total_steps:
            raise NonFiniteError(
                f"fp16 skipped all {total_steps} steps, so nothing was trained: its scale starts at 65,536 and is "
                "halved by each skipped step. Train for more steps, or with training.precision bf16 or fp32"
            )

    def _look(self, all_but: int) -> None:
        while len(self._sent) > all_but:
            sent = self._sent.popleft()
            self.loss, self.gradient_norm = sent.look()
            skipped = not math.isfinite(self.gradient_norm)
            self.skipped_steps += skipped
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
            if math.isfinite(self.loss) and self.skipped_in_a_row <= (MOST_SKIPPED if self._overflow_is_skipped else 0):
                continue
            batch = sent.batch
            row = f"{self.skipped_in_a_row} steps in a row skipped; " if self._overflow_is_skipped else ""
            raise NonFiniteError(
                f"step {batch.step} (epoch {batch.epoch}): {row}loss {self.loss}, gradient norm {self.gradient_norm}; "
                f"dataset rows of the batch: {batch.global_rows.tolist()}. A lower training.optimizer.learning_rate or "
                "precision fp32 may help; where no two images of a batch share a label, training.images_per_class"
            )
