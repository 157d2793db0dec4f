from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from agmm.mixture import ObjectiveOutput
from agmm.training.baselines import EMATeacherLoss, PartialCrossEntropyLoss, teacher_opinion

BATCH, CLASSES, PIXELS, CELLS = 2, 3, (4, 6), (2, 3)


def random_arguments(seed: int = 0, *, labelled: float = 0.3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    seeds = torch.randint(CLASSES, (BATCH, *PIXELS), generator=generator)
    unlabelled = torch.rand(BATCH, *PIXELS, generator=generator) >= labelled
    return {
        "logits": 2 * normal(BATCH, CLASSES, *PIXELS),
        "features": normal(BATCH, 5, *CELLS),
        "seeds": seeds.masked_fill(unlabelled, 255),
    }


def random_teacher(seed: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(BATCH, CLASSES, *PIXELS, generator=generator)


def half_valid() -> Tensor:
    valid = torch.ones(BATCH, *PIXELS, dtype=torch.bool)
    valid[1, :, 3:] = False
    return valid


def slow_opinion(
    logits: Tensor,
    teacher: Tensor,
    seeds: Tensor,
    candidates: Tensor | None = None,
    valid: Tensor | None = None,
) -> float:
    """The teacher's opinion, pixel by pixel."""
    total, count = 0.0, 0
    for b, y, x in np.ndindex(BATCH, *PIXELS):
        if seeds[b, y, x] != 255 or (valid is not None and not valid[b, y, x]):
            continue
        student = np.exp(logits[b, :, y, x].double().numpy())
        target = np.exp(teacher[b, :, y, x].double().numpy())
        if candidates is not None:
            allowed = candidates[b] if candidates.ndim == 2 else candidates[b, :, y, x]
            target = target * allowed.numpy()
        student, target = student / student.sum(), target / target.sum()
        total += float(target.max() * -(target * np.log(student)).sum())
        count += 1
    return total / max(1, count)


def random_candidates(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    candidates = torch.rand(*shape, generator=generator) < 0.5
    candidates[:, 1] = True
    return candidates


@pytest.mark.parametrize("valid", [None, half_valid()])
@pytest.mark.parametrize(
    "candidates",
    [None, random_candidates(BATCH, CLASSES), random_candidates(BATCH, CLASSES, *PIXELS)],
)
def test_the_teachers_opinion_against_a_slow_loop(
    candidates: Tensor | None, valid: Tensor | None
) -> None:
    given, teacher = random_arguments(), random_teacher()

    opinion = teacher_opinion(given["logits"], teacher, given["seeds"], candidates, valid)

    expected = slow_opinion(given["logits"], teacher, given["seeds"], candidates, valid)
    assert opinion.item() == pytest.approx(expected, rel=1e-5)


def test_the_teachers_opinion_by_hand() -> None:
    teacher = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)
    seeds = torch.full((1, 1, 1), 255)

    opinion = teacher_opinion(torch.zeros(1, 2, 1, 1), teacher, seeds)

    assert opinion.item() == pytest.approx(0.75 * np.log(2))


def test_candidates_mask_the_teacher() -> None:
    teacher = torch.tensor([9.0, 0.0, 0.0]).view(1, 3, 1, 1)
    seeds = torch.full((1, 1, 1), 255)
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)

    opinion = teacher_opinion(logits, teacher, seeds, torch.tensor([[False, True, False]]))

    # The only candidate is taught with full confidence: p - onehot.
    (gradient,) = torch.autograd.grad(opinion, logits)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([1.0, -2.0, 1.0]) / 3)


def test_the_teacher_is_not_taught() -> None:
    given = random_arguments()
    teacher = random_teacher().requires_grad_()
    logits = given["logits"].requires_grad_()

    opinion = teacher_opinion(logits, teacher, given["seeds"])

    gradients: Any = torch.autograd.grad(opinion, (logits, teacher), allow_unused=True)
    assert gradients[1] is None
    assert (gradients[0].abs().sum(1)[given["seeds"] != 255] == 0).all()
    assert (gradients[0].abs().sum(1)[given["seeds"] == 255] > 0).all()


def test_padding_may_be_without_candidates() -> None:
    given, valid = random_arguments(), half_valid()
    candidates = random_candidates(BATCH, CLASSES, *PIXELS) & valid[:, None]
    logits = given["logits"].requires_grad_()

    opinion = teacher_opinion(logits, random_teacher(), given["seeds"], candidates, valid)

    expected = slow_opinion(logits.detach(), random_teacher(), given["seeds"], candidates, valid)
    assert opinion.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(opinion, logits)[0]).all()


def test_without_an_unlabelled_pixel_the_opinion_is_nothing() -> None:
    given = random_arguments(labelled=1.0)
    logits = given["logits"].requires_grad_()

    opinion = teacher_opinion(logits, random_teacher(), given["seeds"])

    assert opinion.item() == 0
    assert (torch.autograd.grad(opinion, logits)[0] == 0).all()


def test_the_weight_of_the_teacher_rises_over_the_warm_up() -> None:
    given, teacher = random_arguments(), random_teacher()
    objective = EMATeacherLoss(consistency=0.5, warmup_steps=4)
    full = slow_opinion(given["logits"], teacher, given["seeds"])

    terms = [objective(**given, teacher_logits=teacher).terms["consistency"] for _ in range(7)]

    expected = [0.5 * min(1, step / 4) * full for step in range(7)]
    assert [term.item() for term in terms] == pytest.approx(expected, rel=1e-5)


def test_the_warm_up_stands_still_in_evaluation_mode() -> None:
    given, teacher = random_arguments(), random_teacher()
    objective = EMATeacherLoss(warmup_steps=4)
    objective(**given, teacher_logits=teacher)
    objective.eval()

    terms = [objective(**given, teacher_logits=teacher).terms["consistency"] for _ in range(3)]

    assert objective.step == 1
    assert terms[0] > 0
    assert terms[0] == terms[1] == terms[2]


def test_without_warm_up_the_teacher_counts_at_once() -> None:
    given, teacher = random_arguments(), random_teacher()
    objective = EMATeacherLoss(warmup_steps=0)

    term = objective(**given, teacher_logits=teacher).terms["consistency"]

    expected = slow_opinion(given["logits"], teacher, given["seeds"])
    assert term.item() == pytest.approx(expected, rel=1e-5)


def test_without_a_teacher_only_the_labelled_pixels_count() -> None:
    given = random_arguments()

    result: ObjectiveOutput = EMATeacherLoss()(**given)

    assert set(result.terms) == {"partial_cross_entropy"}
    expected = functional.cross_entropy(given["logits"], given["seeds"], ignore_index=255)
    torch.testing.assert_close(result.loss, expected)


def test_the_loss_of_the_mean_teacher_is_the_sum_of_its_terms() -> None:
    given, teacher = random_arguments(), random_teacher()
    objective = EMATeacherLoss(consistency=2.0, warmup_steps=0)

    loss = objective(**given, teacher_logits=teacher).loss

    cross_entropy = functional.cross_entropy(given["logits"], given["seeds"], ignore_index=255)
    expected = cross_entropy + 2 * slow_opinion(given["logits"], teacher, given["seeds"])
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("seed", range(3))
def test_partial_cross_entropy_is_torchs_with_an_ignored_index(seed: int) -> None:
    given = random_arguments(seed)
    logits = given["logits"].requires_grad_()
    reference = given["logits"].detach().clone().requires_grad_()

    result = PartialCrossEntropyLoss(absent=0.0)(**given)
    result.loss.backward()

    expected = functional.cross_entropy(reference, given["seeds"], ignore_index=255)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(logits.grad, reference.grad)


def test_without_a_labelled_pixel_the_loss_is_0_and_not_nan() -> None:
    given = random_arguments(labelled=0.0)
    logits = given["logits"].requires_grad_()

    loss = PartialCrossEntropyLoss(absent=0.0)(**given).loss
    loss.backward()

    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_labels_on_padding_do_not_count() -> None:
    given, valid = random_arguments(), half_valid()

    loss = PartialCrossEntropyLoss(absent=0.0)(**given, valid=valid).loss

    seeds = given["seeds"].masked_fill(~valid, 255)
    expected = functional.cross_entropy(given["logits"], seeds, ignore_index=255)
    torch.testing.assert_close(loss, expected)


def test_the_absent_class_term_by_hand() -> None:
    # One cell; of two classes the second is absent: -log(1 - p_1) = -log(1/2), times its weight.
    result = PartialCrossEntropyLoss(absent=0.5)(
        torch.zeros(1, 2, 2, 2),
        torch.zeros(1, 3, 1, 1),
        torch.full((1, 2, 2), 255),
        candidates=torch.tensor([[True, False]]),
    )

    assert result.terms["absent_class"].item() == pytest.approx(0.5 * np.log(2))
    assert result.loss.item() == pytest.approx(0.5 * np.log(2))


@pytest.mark.parametrize("objective", [PartialCrossEntropyLoss(absent=1.0), EMATeacherLoss()])
def test_the_posterior_is_uniform_over_the_candidates(
    objective: PartialCrossEntropyLoss | EMATeacherLoss,
) -> None:
    given = random_arguments(labelled=0.0)
    candidates = torch.tensor([[True, True, True], [False, True, True]])

    posterior = objective(**given, candidates=candidates).posterior

    assert posterior.shape == (BATCH, CLASSES, *CELLS)
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]])[..., None, None]
    torch.testing.assert_close(posterior, expected.expand_as(posterior))


def test_the_posterior_follows_candidates_of_single_pixels() -> None:
    given = random_arguments(labelled=0.0)
    candidates = torch.ones(BATCH, CLASSES, *PIXELS, dtype=torch.bool)
    candidates[0, 0, :2, :2] = False  # the pixels of the first cell

    posterior = EMATeacherLoss()(**given, candidates=candidates).posterior

    assert posterior[0, :, 0, 0].tolist() == [0.0, 0.5, 0.5]
    torch.testing.assert_close(posterior[0, :, 1, 1], torch.full((3,), 1 / 3))
