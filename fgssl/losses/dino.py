"""DINO: cross-entropy between the distributions of a teacher and of a student (Caron et al. 2021, arXiv:2104.14294)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fgssl.losses.precision import at_least_fp32
from fgssl.losses.shapes import require_pairs, require_temperature


def centered_softmax(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Return the distributions of the teacher, softmax((logits - center) / temperature) over each row.

    The center keeps one dimension from taking all images, and a low temperature keeps them from the uniform
    distribution (Caron et al. 2021, Sec. 3.1, Alg. 1).

    Args:
        logits: (N, K), any floating-point type.
        center: (K,), a moving average of the mean row.
        temperature: Divisor of the centered logits, above 0.

    Returns:
        (N, K) probabilities, float32, or float64 if the inputs are float64.

    Raises:
        ValueError: The shapes do not fit each other, or `temperature` is not above 0.
    """
    require_temperature(temperature)
    if logits.ndim != 2 or center.shape != logits.shape[1:]:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and center of shape {tuple(center.shape)}: must be (N, K) and (K,)"
        )
    return ((at_least_fp32(logits) - at_least_fp32(center)) / temperature).softmax(dim=1)


def dino(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean cross-entropy of the student's distributions under the teacher's (Caron et al. 2021, Eq. 3).

    It is the mean over all pairs of a view of the teacher with another view of the student. The first views of the
    student are those of the teacher, in order.

    Args:
        student: Logits (N, K) of each view, any floating-point type.
        teacher: Probabilities (N, K) of the first views, from `centered_softmax`. Detach them for a stop-gradient.
        temperature: Divisor of the student's logits, above 0.

    Returns:
        Scalar in nats, float32, or float64 if the inputs are float64.

    Raises:
        ValueError: There is no pair of different views, the shapes differ, or `temperature` is not above 0.
        NoPositivesError: N is 0.
    """
    require_temperature(temperature)
    if len(student) < 2 or not 0 < len(teacher) <= len(student):
        raise ValueError(
            f"{len(student)} views of the student and {len(teacher)} of the teacher: the student must have at least "
            "two, the teacher at least one and no more than the student"
        )
    crossed = []
    for view, logits in enumerate(student):
        log_probabilities = (at_least_fp32(logits) / temperature).log_softmax(dim=1)  # (N, K)
        for other, probabilities in enumerate(teacher):
            require_pairs(logits, probabilities)
            if other != view:
                crossed.append(-(at_least_fp32(probabilities) * log_probabilities).sum(dim=1).mean())
    return torch.stack(crossed).mean()
