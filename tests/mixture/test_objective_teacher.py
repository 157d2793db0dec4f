"""AGMMLoss with a teacher: who teaches, who is taught, what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agmm.errors import InputError
from agmm.mixture import AGMMLoss
from tests.mixture.plain import plain_loss

Batch = dict[str, Any]
Make = Callable[..., Batch]
WEIGHTS: dict[str, Any] = {
    "partial_cross_entropy": 1.0,
    "mixture_likelihood": 0.7,
    "mutual": 0.6,
    "mutual_features": 0.55,
    "maximisation": 0.5,
    "separation": 0.4,
    "absent_class": 0.3,
}
MUTUAL: dict[str, Any] = {**dict.fromkeys(WEIGHTS, 0.0), "mutual": 1.0}
TEACHER = ("teacher_logits", "teacher_features")


def build(**options: Any) -> AGMMLoss:
    """The objective with all terms and without warm-up."""
    return plain_loss(4, 3, **WEIGHTS, warmup_steps=0, **options)


def state(objective: AGMMLoss) -> list[torch.Tensor]:
    return list(objective.mixture.state_dict().values())


def test_the_network_as_its_own_teacher_is_no_teacher(make_batch: Make) -> None:
    alone, taught = build(), build()
    for seed in range(3):
        batch = make_batch(seed=seed, candidates="pixel", padding=True, dtype=torch.float32)
        parameters = batch["logits"], batch["features"]
        own = dict(zip(TEACHER, parameters, strict=True))
        out, out_taught = alone(**batch), taught(**batch, **own)
        assert torch.equal(out.loss, out_taught.loss)
        assert torch.equal(out.posterior, out_taught.posterior)
        gradients = torch.autograd.grad(out.loss, parameters)
        gradients_taught = torch.autograd.grad(out_taught.loss, parameters)
        assert all(map(torch.equal, gradients, gradients_taught))
        assert all(map(torch.equal, state(alone), state(taught)))


def test_the_teacher_is_not_taught(make_batch: Make) -> None:
    objective = build()
    for seed in range(2):  # in the second step all classes have running centres
        batch = make_batch(seed=seed, candidates="image", teacher=True)
        for name in TEACHER:
            batch[name].requires_grad_()
        objective(**batch).loss.backward()
        assert all(batch[name].grad is None for name in TEACHER)
        assert all((batch[name].grad != 0).any() for name in ("logits", "features"))


def test_the_running_statistics_are_those_of_the_teacher(make_batch: Make) -> None:
    # All pixels are labelled and each is a cell: the centres are plain means.
    batch = make_batch(pixels=(3, 4), labelled=1.0, teacher=True, dtype=torch.float32)
    objective = build()
    objective(**batch)
    features = batch["teacher_features"].movedim(1, -1)
    for k in range(4):
        mine = features[batch["seeds"] == k]
        torch.testing.assert_close(objective.mixture.means[k], mine.mean(0))
        variance = mine.var(0, correction=0).mean()  # not around the centres of the images
        torch.testing.assert_close(objective.mixture.variances[k], variance)


def test_the_running_statistics_do_not_depend_on_the_network(make_batch: Make) -> None:
    batch = make_batch(candidates="pixel", padding=True, teacher=True)
    network = {name: make_batch(seed=1)[name] for name in ("logits", "features")}
    teacher = {name: make_batch(seed=1, teacher=True)[name] for name in TEACHER}
    plain, other_network, other_teacher = build(), build(), build()
    for _ in range(2):
        plain(**batch)
        other_network(**{**batch, **network})
        other_teacher(**{**batch, **teacher})
    assert all(map(torch.equal, state(plain), state(other_network)))
    assert not any(map(torch.equal, state(plain), state(other_teacher)))


def test_the_network_follows_a_teacher_who_is_sure(make_batch: Make) -> None:
    # Far apart features and flat logits: γ is the class of the teacher's cell, whatever ours are.
    batch = make_batch(batch=1, pixels=(3, 4), teacher=True, dtype=torch.float32)
    classes = torch.arange(12).view(1, 3, 4) % 4
    batch["seeds"] = classes.clone()
    batch["seeds"][:, 1:] = 255
    batch["teacher_logits"].zero_()
    batch["teacher_features"] = 100.0 * torch.eye(4)[classes, :3].movedim(-1, 1)
    objective = plain_loss(4, 3, **MUTUAL, warmup_steps=0)
    (gradient,) = torch.autograd.grad(objective(**batch).loss, batch["logits"])
    target = torch.nn.functional.one_hot(classes, 4).movedim(-1, 1)
    expected = (batch["logits"].softmax(1) - target) / 12  # of twelve cells; eight have no label
    expected[:, :, 0] = 0
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("network", [torch.float32, torch.float64])
def test_teacher_of_another_precision(
    make_batch: Make, dtype: torch.dtype, network: torch.dtype
) -> None:
    batch = make_batch(candidates="image", padding=True, teacher=True, dtype=network)
    given = {name: batch[name].to(dtype) for name in TEACHER}
    same = {name: tensor.to(network) for name, tensor in given.items()}
    objective, expected = build(), build()
    out, out_same = objective(**{**batch, **given}), expected(**{**batch, **same})
    assert out.loss.dtype == network
    assert torch.equal(out.loss, out_same.loss)
    assert all(map(torch.equal, state(objective), state(expected)))


def test_autocast_changes_nothing(make_batch: Make) -> None:
    batch = make_batch(teacher=True, dtype=torch.float32)
    expected = build()(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = build()(**batch)
    assert torch.equal(out.loss, expected.loss)
    assert torch.equal(out.posterior, expected.posterior)


@pytest.mark.parametrize("layout", ["channels last", "strided"])
def test_memory_layout_of_the_teacher_changes_nothing(make_batch: Make, layout: str) -> None:
    batch = make_batch(candidates="pixel", padding=True, teacher=True)
    objective, expected = build(), build()
    other = dict(batch)
    for name in TEACHER:
        if layout == "channels last":
            other[name] = batch[name].contiguous(memory_format=torch.channels_last)
        else:
            other[name] = batch[name].mT.contiguous().mT
        assert not other[name].is_contiguous()
    torch.testing.assert_close(objective(**other).loss, expected(**batch).loss)
    torch.testing.assert_close(state(objective), state(expected))


def test_evaluation_with_a_teacher_changes_no_state(make_batch: Make) -> None:
    objective = build()
    objective(**make_batch(teacher=True))
    before = [value.clone() for value in objective.state_dict().values()]
    objective.eval()
    out = objective(**make_batch(seed=1, teacher=True))
    assert out.loss.isfinite()
    assert all(map(torch.equal, before, objective.state_dict().values()))


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("case", ["batch", "invalid", "all labelled"])
def test_nothing_to_teach_is_finite(make_batch: Make, case: str, teacher: bool) -> None:
    batch = make_batch(
        pixels=(3, 4), labelled=1.0, candidates="pixel", teacher=teacher, dtype=torch.float32
    )
    if case == "batch":
        batch["seeds"].fill_(255)
    elif case == "invalid":
        batch["valid"] = torch.zeros_like(batch["seeds"], dtype=torch.bool)
    out = build()(**batch)
    out.loss.backward()
    assert out.loss.isfinite()
    assert out.terms["mutual"] == 0
    assert all(batch[name].grad.isfinite().all() for name in ("logits", "features"))


@pytest.mark.parametrize("missing", TEACHER)
def test_half_a_teacher_is_refused(make_batch: Make, missing: str) -> None:
    batch = {**make_batch(teacher=True), missing: None}
    (given,) = set(TEACHER) - {missing}
    message = rf"^{missing}: expected a tensor beside {given}, got None; pass both or neither$"
    with pytest.raises(InputError, match=message):
        build()(**batch)


WRONG = {
    "teacher_logits": [
        torch.zeros(1, 4, 6, 8), torch.zeros(2, 5, 6, 8), torch.zeros(2, 4, 3, 4),
        torch.zeros(2, 4, 6, 8).int(),
    ],
    "teacher_features": [
        torch.zeros(3, 3, 3, 4), torch.zeros(2, 2, 3, 4), torch.zeros(2, 3, 12),
        torch.zeros(2, 3, 3, 4).long(),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "index"), [(name, i) for name in WRONG for i in range(4)])
def test_a_teacher_that_does_not_fit_is_named(make_batch: Make, name: str, index: int) -> None:
    batch = {**make_batch(teacher=True), name: WRONG[name][index]}
    objective = build()
    with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
        objective(**batch)
    assert objective.mixture.mass.sum() == 0
