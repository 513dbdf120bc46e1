"""What a method is: three phases a step, each over images in shards, so that 1 and 1,000 processes train alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.schedules import Schedule


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share their schedules."""

    parameters: list[nn.Parameter]
    learning_rate: Schedule
    weight_decay: Schedule


class Method(nn.Module, ABC):
    """One module that holds every network of a method.

    Each process calls, per step: `target` on its shards of the shuffled global batch, `online` on its shards in order,
    `loss` on the embeddings of the whole global batch, and `after_step` once the optimizer has stepped. Only `target`
    and `online` run networks on images, only `loss` sees images together: negatives span the global batch by
    construction, and every process computes the same loss, queue and bank.
    """

    encoder: nn.Module
    """All that evaluation loads."""
    online_views: tuple[int, ...]
    """Numbers of the views that `online` sees, in `batch.views`."""
    target_views: tuple[int, ...] = ()
    """Numbers of the views that `target`, the branch without gradient, sees; () if there is none."""
    needs_original: bool = False
    """Whether a batch must hold the resized-only images."""

    @property
    def num_views(self) -> int:
        """Augmented views that are made of an image."""
        return len({*self.online_views, *self.target_views})

    def target(self, *views: Tensor) -> Tensor:
        """Return the results (N, P) of a branch without gradient (keys of a momentum encoder) on the `target_views`."""
        raise NotImplementedError

    @abstractmethod
    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return per-image results, with gradient; `target` holds this batch's own, in its order."""

    @abstractmethod
    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the loss of the global batch; `progress` in [0, 1) is the share of training done."""

    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Update moving averages, queues and banks; once per optimizer step, with `online` detached."""

    def prepare(self, originals: Callable[[int], Iterable[Tensor]]) -> None:
        """Fill what step 0 needs; `originals(n)` gives n resized training images, (group, C, H, W) at a time."""

    def trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return all trained parameters, by their schedules; the first group's are those of the settings."""
        return [ParameterGroup(self.trained_parameters(), learning_rate, weight_decay)]

    def exports(self) -> dict[str, nn.Module]:
        """Return the networks to keep after training, by file stem."""
        return {"encoder": self.encoder}

    def forward(self, batch: Batch, target: Tensor | None) -> Embeddings:
        return self.online(batch, target)


class Pairable(Method):
    """A method that synthesized pairs can be built on."""

    @abstractmethod
    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the (N,) contrastive loss of each image's feature (N, D) against an augmented view of it.

        `online` and `target` are the method's own of the same images.
        """

    @abstractmethod
    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return what `pair_loss` needs of features (N, D) of pairs of images; names begin with `pair_`."""

    @abstractmethod
    def pair_loss(self, online: Embeddings) -> Tensor:
        """Return the scalar loss of the pairs of the global batch."""
