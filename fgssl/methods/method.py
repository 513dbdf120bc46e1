"""Contract of a method: three phases per step, so that training is the same on 1 and on 1,000 processes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.schedules import Schedule


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share their schedules of learning rate and weight decay."""

    parameters: list[nn.Parameter]
    learning_rate: Schedule
    weight_decay: Schedule


class Method(nn.Module, ABC):
    """Module that holds every network of a method.

    In each step every process calls `target` on its shards of the shuffled global batch, `online` on its shards in
    order, `loss` on the embeddings of the whole global batch, and `after_step` after the step of the optimizer.
    `target` and `online` run networks on images; `loss` alone sees all images together. Negatives therefore span the
    global batch, and every process computes the same loss, queue and bank.
    """

    encoder: nn.Module
    """Module from images (N, C, H, W) to features (N, D), the only one that evaluation loads."""
    online_views: tuple[int, ...]
    """Numbers of the views that `online` gets, in `batch.views`."""
    target_views: tuple[int, ...] = ()
    """Numbers of the views that `target`, the branch without gradient, gets; empty if there is no such branch."""
    needs_original: bool = False
    """Whether a batch must hold the resized images besides the views."""

    @property
    def num_views(self) -> int:
        """Number of augmented views per image."""
        return len({*self.online_views, *self.target_views})

    def target(self, *views: Tensor) -> Tensor:
        """Return the results (N, P) of the branch without gradient, such as a momentum encoder's keys.

        It gets the `target_views`, each (N, C, H, W).
        """
        raise NotImplementedError

    @abstractmethod
    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return results per image, with gradient; `target` (N, P) are those of the same images."""

    @abstractmethod
    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the loss of the global batch; `progress` in [0, 1) is the share of training done."""

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Update moving averages, queues and banks once per optimizer step; `online` is detached."""

    def prepare(self, originals: Callable[[int], Iterable[Tensor]]) -> None:
        """Fill the buffers that step 0 reads; `originals(n)` yields n resized images, (group, C, H, W) at a time."""

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that require a gradient, in the order of the module."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return all trained parameters by their schedules; the first group has the schedules of the settings."""
        return [ParameterGroup(self.trained_parameters(), learning_rate, weight_decay)]

    def exports(self) -> dict[str, nn.Module]:
        """Return the networks that are written after training, by the stem of their file."""
        return {"encoder": self.encoder}

    def forward(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `online`, so that a wrapper such as DDP can call the method as a module."""
        return self.online(batch, target)
