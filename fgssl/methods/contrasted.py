"""Contracts of base methods, on which other methods are built."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings
from fgssl.methods.method import Method


class Contrasted(Method):
    """Method whose embeddings are functions of the online views' features, with a loss for each image of its own."""

    @abstractmethod
    def embed(self, *features: Tensor) -> Embeddings:
        """Return the embeddings from the features (N, D) of each online view."""

    @abstractmethod
    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the contrastive loss (N,) of each image's feature (N, D) against an augmented view of the image.

        `online` and `target` are this method's results for the same images.
        """

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `embed` of the features of the online views."""
        return self.embed(*(self.encoder(view) for view in batch.views[: len(self.online_views)]))


class Followed(Contrasted):
    """Method with a slow copy of encoder and head, whose target is a function of the slow features."""

    head: nn.Module
    """Module from features (N, D) to projections (N, P)."""

    @property
    @abstractmethod
    def slow_networks(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and head that follow the trained ones."""

    @torch.no_grad()
    def embed_target(self, *features: Tensor) -> Tensor:
        """Return the target from the features (N, D) of each target view: the slow projections side by side."""
        return torch.cat([self.slow_networks[1](one) for one in features], dim=1)

    @torch.no_grad()
    def target(self, *views: Tensor) -> Tensor:
        """Return `embed_target` of the slow features of the target views."""
        return self.embed_target(*(self.slow_networks[0](view) for view in views))


class Pairable(Contrasted):
    """Method on which *Synthesized Pairs* can be built."""

    @abstractmethod
    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return embeddings for `pair_loss` from features (N, D) of paired images; their names begin with `pair_`."""

    @abstractmethod
    def pair_loss(self, online: Embeddings, progress: float) -> Tensor:
        """Return the scalar loss of all pairs of the global batch; `progress` is that of `loss`."""
