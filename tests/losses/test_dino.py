"""DINO's loss against a loop and lightly, in closed form, and the flow of its gradient."""

import math

import pytest
import torch
from lightly.loss import DINOLoss
from torch import Tensor

from fgssl.losses import centered_softmax, dino

IMAGES, PROTOTYPES = 5, 12


def logits(views: int) -> list[Tensor]:
    return list(torch.randn(views, IMAGES, PROTOTYPES, dtype=torch.float64))


def slow_softmax(row: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def slow(student: list[Tensor], teacher: list[Tensor], center: Tensor, temperatures: tuple[float, float]) -> float:
    """Return the mean of -sum_k P_t(x)_k log P_s(x')_k over images and over pairs x' != x (Eq. 3)."""
    total, pairs = 0.0, 0
    for seen_by_teacher, teacher_rows in enumerate(teacher):
        for seen_by_student, student_rows in enumerate(student):
            if seen_by_teacher == seen_by_student:
                continue
            for image in range(IMAGES):
                centered = (teacher_rows[image] - center).tolist()
                teacher_p = slow_softmax(centered, temperatures[1])
                student_p = slow_softmax(student_rows[image].tolist(), temperatures[0])
                total -= sum(p * math.log(q) for p, q in zip(teacher_p, student_p, strict=True))
                pairs += 1
    return total / pairs


@pytest.mark.parametrize("views", [2, 5])
def test_equals_the_loop_and_lightly(views: int) -> None:
    student, teacher, center = logits(views), logits(2), torch.randn(PROTOTYPES, dtype=torch.float64)
    found = dino(student, [centered_softmax(one, center, 0.07) for one in teacher], 0.1)
    assert found.item() == pytest.approx(slow(student, teacher, center, (0.1, 0.07)), rel=1e-12)
    oracle = DINOLoss(PROTOTYPES, student_temp=0.1)
    oracle.center = center[None, None]
    # The oracle takes the teacher's temperature in single precision.
    torch.testing.assert_close(found, oracle(teacher, student, teacher_temp=0.07), rtol=1e-6, atol=0)


def test_equal_logits_give_the_entropy_of_the_uniform_distribution() -> None:
    same = [torch.ones(IMAGES, PROTOTYPES)] * 3
    teacher = [centered_softmax(one, torch.zeros(PROTOTYPES), 0.04) for one in same[:2]]
    assert dino(same, teacher, 0.1).item() == pytest.approx(math.log(PROTOTYPES), rel=1e-6)


def test_the_center_takes_away_what_all_rows_share() -> None:
    (rows,), shift = logits(1), torch.randn(PROTOTYPES, dtype=torch.float64)
    plain = centered_softmax(rows, torch.zeros(PROTOTYPES, dtype=torch.float64), 0.1)
    torch.testing.assert_close(centered_softmax(rows + shift, shift, 0.1), plain)


def test_double_precision_has_the_right_gradient() -> None:
    student = [one.requires_grad_() for one in logits(3)]
    teacher = [centered_softmax(one, torch.zeros(PROTOTYPES), 0.1) for one in logits(2)]
    assert torch.autograd.gradcheck(lambda *views: dino(views, teacher, 0.2), student)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_single_precision_loss(dtype: torch.dtype) -> None:
    student, teacher = ([one.to(dtype) for one in logits(views)] for views in (3, 2))
    center = torch.zeros(PROTOTYPES)
    found = dino(student, [centered_softmax(one, center, 0.04) for one in teacher], 0.1)
    single = [centered_softmax(one.float(), center, 0.04) for one in teacher]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, dino([one.float() for one in student], single, 0.1))


def test_wrong_arguments_are_named() -> None:
    student = logits(2)
    teacher = [one.softmax(dim=1) for one in logits(2)]
    for views in (student[:1], []):
        with pytest.raises(ValueError, match="the student must have at least two"):
            dino(views, teacher[:1], 0.1)
    with pytest.raises(ValueError, match="2 views of the student and 3 of the teacher"):
        dino(student, [*teacher, teacher[0]], 0.1)
    with pytest.raises(ValueError, match=r"\(5, 12\) and \(4, 12\)"):
        dino(student, [one[:4] for one in teacher], 0.1)
    with pytest.raises(ValueError, match=r"logits of shape \(5, 12\) and center of shape \(11,\)"):
        centered_softmax(student[0], torch.zeros(11), 0.1)
    for temperature in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"temperature {temperature}: must be above 0"):
            dino(student, teacher, temperature)
        with pytest.raises(ValueError, match=f"temperature {temperature}: must be above 0"):
            centered_softmax(student[0], torch.zeros(PROTOTYPES), temperature)
