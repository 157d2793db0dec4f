"""AGMMLoss in the cases that break losses: nothing labelled, padding, odd layouts and types."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from agmm.errors import ConfigError, InputError
from agmm.mixture import AGMM2023Loss, AGMMLoss, inputs, losses
from agmm.mixture.grid import class_counts, class_shares
from tests.mixture.plain import plain_loss

Batch = dict[str, Any]
Make = Callable[..., Batch]
BOTH = pytest.mark.parametrize("build", [AGMMLoss, AGMM2023Loss])
Build = type[AGMMLoss] | type[AGMM2023Loss]
WEIGHTS: dict[str, Any] = {
    "partial_cross_entropy": 1.0,
    "mixture_likelihood": 0.7,
    "mutual": 0.6,
    "mutual_features": 0.55,
    "maximisation": 0.5,
    "separation": 0.4,
    "absent_class": 0.3,
}


def steps(objective: torch.nn.Module, make_batch: Make, number: int = 2, **options: Any) -> None:
    """Some training steps, so that every class has a running centre and the warm-up is over."""
    for seed in range(number):
        objective(**make_batch(seed=100 + seed, labelled=0.9, **options))


def build_full(build: Build, classes: int = 4, channels: int = 3) -> torch.nn.Module:
    """The objective with all terms and without warm-up."""
    if build is AGMMLoss:
        return plain_loss(classes, channels, **WEIGHTS, warmup_steps=0)
    return AGMM2023Loss(classes, channels)


def gradients(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["logits"].grad, batch["features"].grad


@BOTH
@pytest.mark.parametrize("case", ["batch", "image", "invalid", "one class", "class absent"])
def test_missing_labels_give_a_finite_loss_with_a_gradient_path(
    make_batch: Make, build: Build, case: str
) -> None:
    for warm in (False, True):
        objective = build_full(build)
        if warm:
            steps(objective, make_batch, dtype=torch.float32)
        batch = make_batch(candidates="pixel", dtype=torch.float32)
        seeds = batch["seeds"]
        if case == "batch":
            seeds.fill_(255)
        elif case == "image":
            seeds[0] = 255
        elif case == "invalid":
            batch["valid"] = torch.zeros_like(seeds, dtype=torch.bool)
        elif case == "one class":
            seeds[seeds != 255] = 2
        else:
            seeds[seeds == 3] = 255
        out = objective(**batch)
        out.loss.backward()
        assert out.loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(batch))
        torch.testing.assert_close(out.posterior.sum(1), torch.ones(2, 3, 4))
        if case == "invalid":
            assert out.loss == 0


@BOTH
def test_many_classes(make_batch: Make, build: Build) -> None:
    batch = make_batch(classes=171, dtype=torch.float32, candidates="image")
    out = build_full(build, classes=171)(**batch)
    out.loss.backward()
    assert out.loss.isfinite()
    assert out.posterior.shape == (2, 171, 3, 4)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(
    make_batch: Make, build: Build, dtype: torch.dtype
) -> None:
    batch = make_batch(dtype=dtype)
    wide = {**batch, "logits": batch["logits"].float(), "features": batch["features"].float()}
    half, full = build_full(build)(**batch), build_full(build)(**wide)
    assert half.loss.dtype == torch.float32
    assert half.loss == full.loss
    half.loss.backward()
    assert batch["features"].grad.dtype == dtype


@BOTH
def test_autocast_changes_nothing(make_batch: Make, build: Build) -> None:
    batch = make_batch(dtype=torch.float32)
    expected = build_full(build)(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = build_full(build)(**batch)
    assert torch.equal(out.loss, expected.loss)
    assert torch.equal(out.posterior, expected.posterior)


@BOTH
@pytest.mark.parametrize("layout", ["channels last", "strided"])
def test_memory_layout_changes_nothing(make_batch: Make, build: Build, layout: str) -> None:
    batch = make_batch(candidates="pixel", padding=True)
    expected = build_full(build)(**batch).loss

    def stored(tensor: torch.Tensor) -> torch.Tensor:
        if layout == "channels last" and tensor.ndim == 4:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)

    other = {name: stored(tensor) for name, tensor in batch.items()}
    assert not other["logits"].is_contiguous()
    torch.testing.assert_close(build_full(build)(**other).loss, expected)


@BOTH
@pytest.mark.parametrize(
    ("pixels", "cells"), [((321, 321), (81, 81)), ((20, 24), (20, 24)), ((3, 5), (7, 6))]
)
def test_any_strides(
    make_batch: Make, build: Build, pixels: tuple[int, int], cells: tuple[int, int]
) -> None:
    batch = make_batch(pixels=pixels, cells=cells, labelled=0.1, dtype=torch.float32)
    out = build_full(build)(**batch)
    out.loss.backward()
    assert out.loss.isfinite()
    assert out.posterior.shape == (2, 4, *cells)


@BOTH
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), candidates=st.sampled_from(["all", "image", "pixel"]))
def test_posterior_sums_to_one_over_the_candidates(
    build: Build, seed: int, candidates: str
) -> None:
    # The pixels of a cell are the cell, so that candidates need no reduction here.
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(4, (2, 3, 4), generator=generator)
    seeds[torch.rand(2, 3, 4, generator=generator) < 0.7] = 255
    allowed = torch.rand(2, 4, 3, 4, generator=generator) < 0.5
    allowed[:, 0] = True
    given_candidates = {"all": None, "image": allowed[..., 0, 0], "pixel": allowed}[candidates]
    out = build(4, 3)(
        torch.randn(2, 4, 3, 4, generator=generator),
        torch.randn(2, 3, 3, 4, generator=generator),
        seeds,
        given_candidates,
    )
    if given_candidates is None:
        allowed = torch.ones_like(allowed)
    elif given_candidates.ndim == 2:
        allowed = allowed[..., :1, :1].expand_as(allowed)
    seeded = torch.nn.functional.one_hot(seeds % 255, 255)[..., :4].movedim(-1, 1).bool()
    possible = allowed | (seeded & (seeds != 255).unsqueeze(1))
    torch.testing.assert_close(out.posterior.sum(1), torch.ones(2, 3, 4))
    assert (out.posterior[~possible] == 0).all()


@BOTH
def test_renaming_the_classes_renames_the_result(make_batch: Make, build: Build) -> None:
    order = torch.tensor([2, 0, 3, 1])  # new class i is the old class order[i]
    plain, renamed = build_full(build).double(), build_full(build).double()
    for seed in range(3):
        batch = make_batch(seed=seed, candidates="pixel", padding=True)
        names = torch.full((256,), 255)
        names[order] = torch.arange(4)
        other = {
            **batch,
            "logits": batch["logits"][:, order],
            "candidates": batch["candidates"][:, order],
            "seeds": names[batch["seeds"]],
        }
        out, out_renamed = plain(**batch), renamed(**other)
        torch.testing.assert_close(out_renamed.loss, out.loss)
        torch.testing.assert_close(out_renamed.posterior, out.posterior[:, order])


@BOTH
def test_invalid_pixels_and_cells_have_exactly_zero_gradient(
    make_batch: Make, build: Build
) -> None:
    objective = build_full(build)
    steps(objective, make_batch, dtype=torch.float32)
    batch = make_batch(candidates="pixel", padding=True, dtype=torch.float32)
    objective(**batch).loss.backward()
    logits, features = gradients(batch)
    outside = ~batch["valid"].unsqueeze(1)
    assert (logits.masked_select(outside) == 0).all()
    assert (logits.masked_select(~outside) != 0).any()
    cells = ~torch.nn.functional.max_pool2d(batch["valid"].float(), 2).bool().unsqueeze(1)
    assert cells.any()
    assert (features.masked_select(cells) == 0).all()
    assert (features.masked_select(~cells) != 0).any()


def test_unlabelled_pixels_have_no_gradient_without_the_self_supervised_terms(
    make_batch: Make,
) -> None:
    off = dict.fromkeys(
        ("mutual", "mutual_features", "maximisation", "separation", "absent_class"), 0.0
    )
    objective = plain_loss(4, 3, **{**WEIGHTS, **off})
    batch = make_batch(dtype=torch.float32)
    objective(**batch).loss.backward()
    unlabelled = (batch["seeds"] == 255).unsqueeze(1)
    assert (batch["logits"].grad.masked_select(unlabelled) == 0).all()
    assert (batch["logits"].grad.masked_select(~unlabelled) != 0).any()


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_without_weight_is_zero(make_batch: Make, name: str) -> None:
    batch = make_batch(candidates="image")
    objective = plain_loss(4, 3, **{**WEIGHTS, name: 0.0}, warmup_steps=0)
    terms = objective(**batch).terms
    assert set(terms) == set(WEIGHTS)
    assert terms[name] == 0
    assert all(value != 0 for other, value in terms.items() if other != name)


def test_an_image_with_many_labels_learns_less_from_the_mixture(make_batch: Make) -> None:
    batch = make_batch(labelled=0.2)
    rows, columns = batch["features"].shape[2:]
    shares = class_shares(class_counts(batch["seeds"], 4, (rows, columns)))
    labelled = (shares > 0).any(1).sum(1)
    cells = rows * columns
    assert labelled.min() > 0
    few, many = cells / labelled.max().item() - 0.1, 2 * cells / labelled.min().item()
    terms = [
        plain_loss(4, 3, **WEIGHTS, warmup_steps=0, label_worth=worth)(**batch).terms
        for worth in (0.0, few, many, 2 * many)
    ]
    for name, term in terms[0].items():
        assert terms[1][name].item() == term.item(), name  # labels are few in all of them
        quarter = 0.25 if name in {"mutual", "mutual_features"} else 1
        assert terms[3][name].item() == pytest.approx(quarter * terms[2][name].item()), name
        assert (terms[2][name] < term).item() == (quarter == 0.25), name


@BOTH
def test_gradient(make_batch: Make, build: Build) -> None:
    # The mutual teaching stops gradients, which finite differences cannot see.
    objective: torch.nn.Module = AGMM2023Loss(4, 3)
    if build is AGMMLoss:
        objective = plain_loss(
            4, 3, **{**WEIGHTS, "mutual": 0.0, "mutual_features": 0.0}, warmup_steps=0,
            network_prior=False, confidence="none",
        ).double()  # fmt: skip
        steps(objective, make_batch)
        objective.eval()
    batch = make_batch(candidates="image", padding=True)
    rest = (batch["seeds"], batch["candidates"], batch["valid"])
    if build is AGMMLoss:  # with all cells labelled no target depends on the features
        rest = (torch.randint(4, batch["seeds"].shape), *rest[1:])
    assert torch.autograd.gradcheck(
        lambda logits, features: objective(logits, features, *rest).loss,
        (batch["logits"], batch["features"]),
    )


def test_separable_classes_are_told_apart_from_a_few_seeds() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 1.5 * torch.randn(5, 32, generator=generator)  # the classes' own variance is 1
    objective = plain_loss(5, 32, step_size=0.1, temperature=0.1)
    for _ in range(20):
        labels = torch.randint(5, (2, 16, 16), generator=generator)
        features = centres[labels] + torch.randn(2, 16, 16, 32, generator=generator)
        unlabelled = torch.rand(2, 16, 16, generator=generator) < 0.97
        seeds = labels.masked_fill(unlabelled, 255)
        with torch.no_grad():
            out = objective(torch.zeros(2, 5, 16, 16), features.movedim(3, 1), seeds)
    right = out.posterior.argmax(1) == labels
    assert right[unlabelled].float().mean() > 0.95
    assert out.posterior.amax(1)[unlabelled].mean() > 0.85
    # The variance of all cells together is 1 + 1.5² · 4/5 = 2.8; a centre from few seeds is off.
    assert (objective.mixture.variances < 1.9).all()


def test_warmup_rises_and_counts_training_steps_only(make_batch: Make) -> None:
    objective = plain_loss(4, 3, **WEIGHTS, warmup_steps=4, step_size=1.0).double()
    batch = make_batch()
    values = []
    for _ in range(6):
        with torch.no_grad():
            objective.eval()
            values.append(objective(**batch).terms["separation"].item())
            objective.train()
            objective(**batch)
    assert values[4] > 0
    assert values == pytest.approx([values[4] * min(1, step / 4) for step in range(6)])
    assert objective.step.item() == 6


def test_evaluation_changes_no_state(make_batch: Make) -> None:
    objective = plain_loss(4, 3)
    objective(**make_batch())
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.eval()
    objective(**make_batch(seed=1))
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())


@pytest.mark.parametrize("name", ["logits", "features"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_whose_numbers_overflow_spoils_no_other(
    make_batch: Make, name: str, value: float
) -> None:
    """As in half precision, where a gradient scaler leaves such a step out."""
    objective = AGMMLoss(4, 3, warmup_steps=0)
    steps(objective, make_batch, dtype=torch.float32)
    batch = make_batch(labelled=0.05, dtype=torch.float32)
    batch[name] = batch[name].detach()
    batch[name][0, 1, 1, 2] = value
    assert not objective(**batch).loss.isfinite()
    assert all(part.isfinite().all() for part in objective.state_dict().values())
    out = objective(**make_batch(seed=1, dtype=torch.float32))
    assert out.loss.isfinite()
    assert out.posterior.isfinite().all()


PREDICTING: list[dict[str, Any]] = [
    {}, {"network_prior": False}, {"coherence": 0.0}, {"running_share": 0.0}, {"appearance": 1.0},
    {"centres": "batch"}, {"centres": "pixels"}, {"centres": "running", "components": 2},
]  # fmt: skip


@pytest.mark.parametrize("options", PREDICTING, ids=str)
@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_the_posterior_without_labels_is_that_of_a_call(
    make_batch: Make,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    readable: bool,
    padded: bool,
) -> None:
    """One class of the four has never been seen, and one is rarely shown by images."""
    monkeypatch.setattr(inputs, "readable", lambda *_: readable)
    objective = AGMMLoss(4, 3, **options)
    images = torch.randn(40, 3, 6, 8, generator=torch.Generator().manual_seed(1)).double()
    for seed in range(3):
        batch = make_batch(seed=seed)
        batch["seeds"][batch["seeds"] == 3] = 255
        objective(**batch, images=images[:2])
    vectors = objective.image_vectors(make_batch(batch=40, seed=8)["features"], images)
    objective.presence_model.fit(vectors, vectors[:, :1] > vectors[:, 1:5])
    assert objective.presence_model.axes.any()
    objective.eval()

    batch = make_batch(seed=9)
    images = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)).double()
    batch["seeds"].fill_(255)
    valid = torch.ones(2, 6, 8).bool()
    valid[0, :, 3:] = not padded
    asked = {"valid": valid, "images": images}
    posterior = objective.unlabelled_posterior(batch["logits"], batch["features"], **asked)

    called = objective(**{**batch, **asked}).posterior
    torch.testing.assert_close(posterior, called)
    assert not posterior.requires_grad
    assert (posterior - posterior[:, :1, :1, :1]).abs().amax() > 0.1


@pytest.mark.parametrize(("factor", "fits"), [(1, True), (100, False)])
def test_images_that_were_not_normalised_are_refused(
    factor: int, make_batch: Make, *, fits: bool
) -> None:
    images = factor * torch.linspace(-2, 2, 2 * 3 * 6 * 8, dtype=torch.float64).view(2, 3, 6, 8)
    told = "images: expected colours in standard deviations, about -3 to 3, got 200; normalise"
    with contextlib.nullcontext() if fits else pytest.raises(InputError, match=told):
        AGMMLoss(4, 3)(**make_batch(), images=images)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 6, 8), torch.zeros(4, 6, 8)])
def test_the_posterior_without_labels_refuses_logits_that_do_not_fit(wrong: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"^logits: expected shape \(batch, k=4, "):
        AGMMLoss(4, 3).unlabelled_posterior(wrong, torch.zeros(2, 3, 3, 4))


@pytest.mark.parametrize(
    "wrong", [torch.ones(2, 6, 7).bool(), torch.ones(1, 6, 8).bool(), torch.ones(2, 6, 8)]
)
def test_valid_pixels_that_do_not_fit_are_refused(make_batch: Make, wrong: torch.Tensor) -> None:
    objective, batch = AGMMLoss(4, 3), make_batch()
    told = r"^valid: expected torch.bool of shape \(2, 6, 8\), got .*; resize it"
    with pytest.raises(InputError, match=told):
        objective(**{**batch, "valid": wrong})
    with pytest.raises(InputError, match=told):
        objective.unlabelled_posterior(batch["logits"], batch["features"], valid=wrong)


def test_a_term_that_weighs_nothing_is_not_computed(
    make_batch: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["mixture_likelihood", "mutual", "mutual_features", "maximisation", "separation"]
    for name in names:
        monkeypatch.setattr(losses, name, None)
    out = plain_loss(4, 3, **dict.fromkeys(names, 0.0))(**make_batch())
    assert {name: out.terms[name].item() for name in names} == dict.fromkeys(names, 0)
    assert out.loss.item() == pytest.approx(
        out.terms["partial_cross_entropy"].item() + out.terms["absent_class"].item()
    )


def test_state_dict_resumes_exactly(make_batch: Make) -> None:
    options = {**WEIGHTS, "warmup_steps": 5, "prior_floor": 1.0}
    straight, resumed = (plain_loss(4, 3, **options) for _ in range(2))
    steps(straight, make_batch, number=3)
    resumed.load_state_dict(straight.state_dict())
    batch = make_batch(seed=7, labelled=0.05)
    one, two = straight(**batch), resumed(**batch)
    assert set(straight.state_dict()) == {
        "step", "mixture.means", "mixture.variances", "mixture.mass", "prior.counts",
        "presence_model.axes", "presence_model.offsets",
    }  # fmt: skip
    assert torch.equal(one.loss, two.loss)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert straight.step.item() == resumed.step.item() == 4


class NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses every operation that would wait for an accelerator."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:  # fmt: skip
        name = func.overloadpacket.__name__
        boolean_index = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.WAITING or boolean_index:
            raise AssertionError(name)
        return func(*args, **(kwargs or {}))


@BOTH
def test_nothing_waits_for_the_device(
    make_batch: Make, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "readable", lambda *_: False)  # as on an accelerator
    objective = build_full(build)
    batch = make_batch(
        candidates="pixel", padding=True, pixels=(5, 7), dtype=torch.float32,
        teacher=build is AGMMLoss,
    )  # fmt: skip
    with NoWaiting():  # type: ignore[no-untyped-call]
        out = objective(**batch)
        out.loss.backward()
    assert out.loss.isfinite()


WRONG = {
    "logits": [torch.zeros(2, 5, 6, 8), torch.zeros(2, 4, 6), torch.zeros(2, 4, 6, 8).int()],
    "features": [torch.zeros(2, 2, 3, 4), torch.zeros(3, 3, 3, 4), torch.zeros(2, 3, 0, 4)],
    "seeds": [
        torch.zeros(2, 6, 9).long(), torch.zeros(2, 6, 8), torch.full((2, 6, 8), 4),
        torch.full((2, 6, 8), -1),
    ],
    "candidates": [
        torch.ones(2, 5).bool(), torch.ones(2, 4), torch.zeros(2, 4).bool(),
        torch.zeros(2, 4, 6, 8).bool(),
    ],
    "valid": [torch.ones(2, 6, 9).bool(), torch.ones(2, 6, 8)],
}  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    ("name", "index"), [(name, i) for name, values in WRONG.items() for i in range(len(values))]
)
def test_wrong_inputs_are_named(make_batch: Make, build: Build, name: str, index: int) -> None:
    batch = {**make_batch(), name: WRONG[name][index]}
    with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
        build(4, 3)(**batch)


def test_values_on_an_accelerator_are_not_looked_at() -> None:
    # Looking would wait for the device; "meta" stands for one and has no values at all.
    seeds = torch.zeros(2, 6, 8, dtype=torch.int64, device="meta")
    logits, features = torch.zeros(2, 4, 6, 8, device="meta"), torch.zeros(2, 3, 3, 4)
    inputs.check_inputs(logits, features, seeds, None, None, num_classes=4, feature_channels=3)
    with pytest.raises(InputError, match=r"^seeds: expected"):
        inputs.check_inputs(
            logits, features, seeds[1:], None, None, num_classes=4, feature_channels=3
        )


@BOTH
def test_where_no_class_may_occur_is_told(make_batch: Make, build: Build) -> None:
    batch = {**make_batch(), "candidates": torch.tensor([[True] * 4, [False] * 4])}
    with pytest.raises(InputError, match=r" got none at index \[1\] \(image\); "):
        build(4, 3)(**batch)
    batch["candidates"] = torch.ones(2, 4, 6, 8, dtype=torch.bool)
    batch["candidates"][1, :, 2, 7] = False
    with pytest.raises(InputError, match=r" at index \[1, 2, 7\] \(image, row, column\); "):
        build(4, 3)(**batch)


def test_padding_needs_no_candidates(make_batch: Make) -> None:
    batch = make_batch(padding=True, candidates="pixel", pixels=(3, 4))
    batch["candidates"] &= batch["valid"].unsqueeze(1)
    assert plain_loss(4, 3)(**batch).loss.isfinite()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_classes", 1), ("num_classes", 256), ("feature_channels", 0), ("mutual", -1.0),
        ("separation", float("nan")), ("warmup_steps", -1), ("step_size", 0.0), ("step_size", 1.5),
        ("unlabelled_weight", -1.0), ("appearance", -1.0), ("variance_floor", 0.0),
        ("temperature", 0.0), ("coherence", -1.0), ("label_worth", -1.0),
        ("prior_floor", -0.5),
    ],
)  # fmt: skip
def test_wrong_options_are_named(name: str, value: float) -> None:
    options: dict[str, Any] = {"num_classes": 4, "feature_channels": 3, name: value}
    with pytest.raises(ConfigError, match=f"^{name}: expected .* got "):
        plain_loss(**options)
