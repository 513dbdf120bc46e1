"""DINO: a student matches, on small views too, a teacher that is its own slow average (Caron et al. 2021)."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from fgssl import losses
from fgssl.batch import Embeddings, Output
from fgssl.collapse import normalized_std
from fgssl.heads import dino_head
from fgssl.methods.build import Parts
from fgssl.methods.contrasted import Followed, Pairable
from fgssl.methods.ema import update_ema
from fgssl.methods.method import ParameterGroup
from fgssl.schedules import Schedule
from fgssl.settings.without_negatives import DINOSettings


class DINO(Pairable, Followed):
    """Student on all views, teacher on the first two, and the center of the teacher's logits."""

    target_views = (0, 1)
    center: Tensor

    def __init__(self, settings: DINOSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.epochs = parts.config.training.epochs
        self.online_views = tuple(range(parts.config.views.num_recipes))
        self.encoder = parts.encoder
        widths = (parts.feature_width, settings.hidden_width, settings.projection_width)
        self.head = dino_head(*widths, settings.prototypes, settings.head_batch_norm)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("center", torch.zeros(settings.prototypes))  # (K,)

    @property
    def slow_networks(self) -> tuple[nn.Module, nn.Module]:
        """Networks of the teacher."""
        return self.target_encoder, self.target_head

    def embed(self, *features: Tensor) -> Embeddings:
        """Return the student's logits (N, K) of each view, by its number."""
        # All views at once, since each pass of the head normalizes all prototypes anew.
        logits = self.head(torch.cat(features)).chunk(len(features))
        return {str(number): one for number, one in enumerate(logits)}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the cross-entropy over all pairs of a view of the teacher with another view of the student."""
        assert target is not None
        temperature = self._teacher_temperature(progress)
        teacher = [losses.centered_softmax(logits, self.center, temperature) for logits in target.chunk(2, dim=1)]
        student = [online[str(view)] for view in self.online_views]
        loss = losses.dino(student, teacher, self.settings.temperature)
        # Collapse to the uniform distribution has the entropy log K; collapse to one point shows in `projection_std`.
        entropy = torch.special.entr(teacher[0]).sum(dim=1).mean()
        return Output(loss, {"teacher_entropy": entropy, "projection_std": normalized_std(online["0"].detach())})

    def _teacher_temperature(self, progress: float) -> float:
        settings = self.settings
        warm_up = settings.teacher_warm_up_epochs / self.epochs
        rising = Schedule(settings.teacher_temperature_start, end=settings.teacher_temperature, shape="linear")
        return rising.at(progress / warm_up if progress < warm_up else 1.0)

    @torch.no_grad()
    def after_step(self, online: Embeddings, target: Tensor | None, progress: float) -> None:
        """Move the teacher towards the student, and the center towards the mean of the teacher's logits (Eq. 4)."""
        assert target is not None
        momentum = Schedule(self.settings.momentum, end=1.0).at(progress)
        update_ema(self.encoder, self.target_encoder, momentum)
        update_ema(self.head, self.target_head, momentum)
        mean = torch.stack(target.chunk(2, dim=1)).mean(dim=(0, 1))  # (K,)
        self.center.lerp_(mean.to(self.center.dtype), 1 - self.settings.center_momentum)

    def parameter_groups(self, learning_rate: Schedule, weight_decay: Schedule) -> list[ParameterGroup]:
        """Return weights, biases and scales without weight decay, and the prototypes, fixed in the first epochs."""
        *_, prototypes = self.head.parameters()  # the last layer has one parameter, its weight
        others = [one for one in self.trained_parameters() if one is not prototypes]
        delayed = replace(learning_rate, delay=self.settings.prototypes_frozen_epochs / self.epochs)
        return [
            ParameterGroup([one for one in others if one.ndim > 1], learning_rate, weight_decay),
            ParameterGroup([one for one in others if one.ndim <= 1], learning_rate, Schedule(0.0, shape="constant")),
            ParameterGroup([prototypes], delayed, weight_decay),
        ]

    def exports(self) -> dict[str, nn.Module]:
        """Return the encoder of the teacher, whose features the paper measures."""
        return {"encoder": self.target_encoder}

    # ---------------------------------------------------------------------------------- as a base of other methods

    def contrast(self, features: Tensor, online: Embeddings, target: Tensor | None) -> Tensor:
        """Return the cross-entropy (N,) of the student on each feature under the teacher's second view.

        The teacher's temperature is the one after its warm-up, since `online` has no progress.
        """
        assert target is not None
        logits = target.chunk(2, dim=1)[1]
        teacher = losses.centered_softmax(logits, self.center, self.settings.teacher_temperature)
        student = losses.at_least_fp32(self.head(features)) / self.settings.temperature
        return -(teacher * student.log_softmax(dim=1)).sum(dim=1)

    def pair_embeddings(self, first: Tensor, second: Tensor) -> Embeddings:
        """Return the student's logits (N, K) of both images of each pair."""
        return {"pair_first": self.head(first), "pair_second": self.head(second)}

    def pair_loss(self, online: Embeddings, progress: float) -> Tensor:
        """Return the cross-entropy of each image of a pair under the other, mean over both; our choice.

        The student takes the teacher's part without gradient. Its center is the mean over all pairs of the batch, since
        under the center of views, which look otherwise, most rebuilt images come to share few prototypes.
        """
        student, temperature = [online["pair_first"], online["pair_second"]], self._teacher_temperature(progress)
        fixed = torch.stack(student).detach()  # (2, N, K)
        teacher = [losses.centered_softmax(logits, fixed.mean(dim=(0, 1)), temperature) for logits in fixed]
        return losses.dino(student, teacher, self.settings.temperature)
