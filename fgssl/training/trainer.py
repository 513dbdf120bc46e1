"""The loop. It is handed objects and reads no settings file; read it aloud."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from fgssl.data.loader import RawBatch
from fgssl.encoders.freezing import train_unfrozen
from fgssl.errors import NonFiniteError
from fgssl.methods.method import Method
from fgssl.records import Batch
from fgssl.schedules import learning_rate_factor
from fgssl.training.interruption import Interruption
from fgssl.training.reporter import Reporter
from fgssl.training.settings import TrainingSettings
from fgssl.training.step import accumulate_gradient
from fgssl.views import colour
from fgssl.views.settings import ViewSettings


@dataclass
class Trainer:
    method: Method
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    settings: TrainingSettings
    views: ViewSettings
    seed: int
    total_steps: int
    micro_batch_size: int
    log_every_steps: int
    checkpoint_every_s: float
    step: int = 0
    """Steps done."""
    wall_s: float = 0.0
    """Of training, over all attempts."""

    def train(
        self,
        batches: Callable[[range], Iterable[RawBatch]],
        reporter: Reporter,
        save: Callable[[dict[str, Any]], None],
        interruption: Interruption,
    ) -> None:
        """Train from `self.step` to the end; `save` is given the state every so many steps and before leaving."""
        train_unfrozen(self.method)
        began = time.monotonic() - self.wall_s
        saved_step, saved_at = self.step, time.monotonic()
        for raw in batches(range(self.step, self.total_steps)):
            # ------------------------------------------------------------------ images to the device, views
            batch = self._batch(raw)

            # ------------------------------------------------------------------ learning rate of this step
            warm_up = self.settings.warm_up_epochs / self.settings.epochs
            progress = raw.step / self.total_steps
            learning_rate = self.settings.first_learning_rate
            decayed = learning_rate * learning_rate_factor(progress, self.settings.schedule, warm_up)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate if group["constant_rate"] else decayed

            # ------------------------------------------------------------------ gradient of the global batch
            self.optimizer.zero_grad(set_to_none=True)
            output, rows, targets = accumulate_gradient(
                self.method, batch, self.micro_batch_size, self.seed, self.accelerator.backward, self._autocast
            )
            loss, gradient_norm = self._finite(output.loss, raw)

            # ------------------------------------------------------------------ one step
            self.optimizer.step()
            self.method.after_step(rows, targets, progress)
            self.step = raw.step + 1
            self.wall_s = time.monotonic() - began

            # ------------------------------------------------------------------ tell
            if self.step % self.log_every_steps == 0 or self.step == self.total_steps:
                metrics = {name: float(value) for name, value in output.metrics.items()}
                reporter.log(
                    self.step,
                    {
                        "epoch": raw.epoch,
                        "loss": loss,
                        **metrics,
                        "gradient_norm": gradient_norm,
                        "learning_rate": decayed,
                    },
                )
            reporter.advance(self.step, loss)

            # ------------------------------------------------------------------ keep
            due = time.monotonic() - saved_at >= self.checkpoint_every_s and self.step < self.total_steps
            if due or (interruption.received is not None and self.step > saved_step):
                save(self.state())
                saved_step, saved_at = self.step, time.monotonic()
            interruption.raise_if_received()

    def state(self) -> dict[str, Any]:
        """All that the steps done so far leave behind."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "wall_s": self.wall_s,
        }

    def resume(self, step: int, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.wall_s = step, state["wall_s"]

    def _batch(self, raw: RawBatch) -> Batch:
        images = torch.from_numpy(raw.images).to(self.accelerator.device)  # (N, crops, H, W, C)
        views = tuple(
            self._input(
                colour.augmented(colour.to_unit(images[:, view]), self.views, self.seed, raw.draw, view, raw.rows)
            )
            for view in range(self.method.num_views)
        )
        original = self._input(colour.to_unit(images[:, -1])) if self.method.needs_original else None
        rows, labels = (torch.from_numpy(values).to(self.accelerator.device) for values in (raw.rows, raw.labels))
        return Batch(raw.step, rows, labels, views, original)

    def _input(self, images: Tensor) -> Tensor:
        # Channels last, like the networks: the faster layout for convolutions on CPU and GPU.
        return colour.normalized(images, self.views).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> Any:
        return self.accelerator.autocast()

    def _finite(self, loss: Tensor, raw: RawBatch) -> tuple[float, float]:
        gradients = [parameter.grad for parameter in self.method.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        loss_value, norm_value = torch.stack([loss.detach().float(), norm.float()]).tolist()  # one synchronisation
        if not torch.isfinite(torch.tensor([loss_value, norm_value])).all():
            raise NonFiniteError(
                f"step {raw.step} (epoch {raw.epoch}): loss {loss_value}, gradient norm {norm_value}; dataset rows of "
                f"the batch: {raw.rows.tolist()}. A lower training.optimizer.learning_rate or precision fp32 may help"
            )
        return loss_value, norm_value
