"""The choices of centres, variances and components, against loops and worked values."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agmm.errors import ConfigError, InputError
from agmm.mixture import inputs, kernel_density
from agmm.mixture.components import Choices, image_components
from agmm.mixture.equipartition import equipartition
from agmm.mixture.online_em import RunningMixture
from tests.mixture.plain import plain_loss

Batch = dict[str, Any]
Make = Callable[..., Batch]
ALL_TERMS: dict[str, Any] = {
    "mixture_likelihood": 0.7, "mutual": 0.6, "mutual_features": 0.55, "maximisation": 0.5,
    "separation": 0.4, "absent_class": 0.3, "warmup_steps": 0,
}  # fmt: skip


def choices(**changes: Any) -> Choices:
    defaults: dict[str, Any] = {
        "centres": "image", "variance": "class", "components": 1, "running_share": 0.0,
        "variance_floor": 1e-4, "temperature": 0.5, "prediction_temperature": 0.5,
    }  # fmt: skip
    return Choices(**{**defaults, **changes})


@pytest.fixture(name="case")
def _case() -> dict[str, Any]:
    """Two images of five cells and three classes; class 2 has no seeds in the batch."""
    generator = torch.Generator().manual_seed(3)
    shares = torch.zeros(2, 3, 5)
    shares[0, 0, 0] = shares[0, 0, 1] = shares[0, 1, 2] = 1
    shares[1, 0, 3] = 0.25
    shares[1, 1, 3] = 0.75
    mixture = RunningMixture(3, 4)
    mixture.means.copy_(torch.randn(3, 4, generator=generator))
    mixture.variances.copy_(torch.tensor([0.5, 2.0, 1.0]))
    mixture.mass.copy_(torch.tensor([1.0, 3.0, 2.0]))
    return {
        "features": torch.randn(2, 4, 5, generator=generator),
        "shares": shares,
        "candidates": torch.ones(2, 3, 5, dtype=torch.bool),
        "mixture": mixture,
    }


def gaussian(cell: np.ndarray, centre: np.ndarray, variance: Any) -> float:
    return float(-((cell - centre) ** 2).mean() / (2 * variance) - 0.5 * math.log(variance))


def slow_likelihood(case: dict[str, Any], choice: Choices) -> np.ndarray:
    """The likelihood with loops over images, classes and cells."""
    features, shares = case["features"].numpy(), case["shares"].numpy()
    mixture: RunningMixture = case["mixture"]
    mass, variances = mixture.mass.numpy(), mixture.variances.numpy()
    spread = {
        "class": variances,
        "shared": np.full(3, (mass * variances).sum() / mass.sum()),
        "fixed": np.ones(3),
    }[choice.variance]
    result = np.zeros(shares.shape)
    for b, k, n in np.ndindex(*shares.shape):
        own = [(shares[b, k, i], features[b, :, i]) for i in range(5) if shares[b, k, i] > 0]
        all_own = [
            (shares[c, k, i], features[c, :, i])
            for c in range(2) for i in range(5) if shares[c, k, i] > 0
        ]  # fmt: skip
        cells = {"image": own, "batch": all_own, "running": [], "pixels": own}[choice.centres]
        cells = cells or [(1.0, mixture.means[k].numpy())]
        total, cell = sum(w for w, _ in cells), features[b, :, n]
        if choice.centres == "pixels":
            heat = choice.temperature
            density = 0.0
            for w, f in cells:
                at = [i for i in range(5) if (features[b, :, i] == f).all()] if own else []
                mixed = shares[b, :, at[0]] if at else np.eye(3)[k]
                wide = (mixed / mixed.sum()) @ spread  # of the classes that share the cell
                density += w / total * math.exp(gaussian(cell, f, wide) / heat)
            result[b, k, n] = heat * math.log(density)
        else:
            centre = sum(w * f for w, f in cells) / total
            result[b, k, n] = gaussian(cell, centre, spread[k])
        if choice.running_share and choice.centres in ("image", "pixels"):
            past = gaussian(cell, mixture.means[k].numpy(), spread[k])
            share = choice.running_share
            density = share * math.exp(past / choice.temperature)
            if own:
                density += (1 - share) * math.exp(result[b, k, n] / choice.temperature)
            result[b, k, n] = choice.temperature * math.log(density)
    return result


@pytest.mark.parametrize("variance", ["class", "shared", "fixed"])
@pytest.mark.parametrize("centres", ["image", "batch", "running", "pixels"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_likelihood_equals_the_loops(
    case: dict[str, Any], centres: str, variance: str, share: float
) -> None:
    choice = choices(centres=centres, variance=variance, running_share=share)
    result = image_components(**case, choices=choice)
    np.testing.assert_allclose(
        result.likelihood, slow_likelihood(case, choice), rtol=1e-5, atol=1e-6
    )
    assert result.known.all()


def test_the_images_classes_may_be_a_part_in_any_order(case: dict[str, Any]) -> None:
    case["shares"][1, 1] = 0  # every image has its own classes in its part
    chosen = torch.tensor([[1, 0], [2, 0]])
    rows = torch.arange(2)[:, None]
    part = {**case, **{name: case[name][rows, chosen] for name in ("shares", "candidates")}}
    for centres in ("image", "batch", "running", "pixels"):
        choice = choices(centres=centres)
        whole = image_components(**case, choices=choice).likelihood[rows, chosen]
        some = image_components(**part, choices=choice, chosen=chosen).likelihood
        torch.testing.assert_close(some, whole)


def test_several_components_are_a_mean_of_gaussians() -> None:
    mixture = RunningMixture(4, 1)
    mixture.means.copy_(torch.tensor([[0.0], [2.0], [5.0], [0.0]]))
    mixture.mass.copy_(torch.tensor([1.0, 1.0, 1.0, 0.0]))
    features, every = torch.tensor([[[0.0]]]), torch.ones(1, 2, 1, dtype=torch.bool)
    result = image_components(
        features, torch.zeros(1, 2, 1), every, mixture,
        choices(centres="running", components=2, prediction_temperature=1.0),
    )  # fmt: skip
    first, second = 1.0, math.exp(-2)  # d² = 0 and 4, variance 1
    assert result.likelihood[0, 0, 0].item() == pytest.approx(math.log((first + second) / 2))
    assert result.likelihood[0, 1, 0].item() == pytest.approx(-12.5)  # one is not known yet
    assert result.shares is not None
    share = first / (first + second)
    torch.testing.assert_close(
        result.shares[0, :, :, 0], torch.tensor([[share, 1 - share], [1, 0]])
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31), cells=st.integers(3, 30), parts=st.integers(1, 5))
def test_equipartition_shares_the_cells_equally(seed: int, cells: int, parts: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(2, parts, cells, generator=generator)
    weights = torch.rand(2, cells, generator=generator)
    weights[1, 1:] = 0  # a single cell cannot be shared out in another way than by its weight
    plan = equipartition(scores, weights, iterations=500)
    torch.testing.assert_close(plan.sum(1), weights)
    torch.testing.assert_close(
        plan[0].sum(1), (weights[0].sum() / parts).expand(parts), rtol=0.02, atol=1e-4
    )
    assert (plan[1, :, 1:] == 0).all()


def test_components_of_a_class_find_its_two_clusters() -> None:
    objective = plain_loss(2, 2, centres="running", components=2, temperature=0.1, step_size=0.5)
    generator = torch.Generator().manual_seed(0)
    clusters = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 6.0]])
    seeds = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1]]).view(1, 1, 8)
    place = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    for _ in range(20):
        noise = 0.1 * torch.randn(8, 2, generator=generator)
        features = (clusters[place] + noise).T.view(1, 2, 1, 8)
        objective(torch.zeros(1, 2, 1, 8), features, seeds)
    means = objective.mixture.means
    found = means[:2][means[:2, 0].argsort(descending=True)]
    torch.testing.assert_close(found, clusters[:2], atol=0.3, rtol=0)
    torch.testing.assert_close(means[2:], clusters[2:].expand(2, 2), atol=0.3, rtol=0)
    torch.testing.assert_close(objective.mixture.mass[0], objective.mixture.mass[1])


def test_many_labelled_cells_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_density, "MAX_PIXELS", 2)
    kept = kernel_density.evenly_spaced(torch.tensor([[[1, 0, 1, 1, 1], [0, 1, 0, 0, 0]]]) > 0)
    assert kept.int().tolist() == [[[0, 0, 1, 0, 1], [0, 1, 0, 0, 0]]]


def test_places_that_no_labelled_cell_fills_change_nothing(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator there are as many places as there may be cells, filled or not."""
    given = case["features"], case["shares"], torch.tensor([0.5, 2.0, 1.0]), 0.5
    few = kernel_density.kernel_density(*given)
    monkeypatch.setattr(inputs, "readable", lambda _: False)
    many = kernel_density.kernel_density(*given)
    present = (case["shares"] > 0).any(2)
    torch.testing.assert_close(many[present], few[present])


VARIANTS: list[dict[str, Any]] = [
    {"centres": "batch"}, {"centres": "running"}, {"centres": "pixels"},
    {"variance": "shared"}, {"variance": "fixed"}, {"centres": "running", "components": 3},
    {"normalise_features": True}, {"appearance": 0.5}, {"unlabelled_weight": 0.0},
    {"centres": "pixels", "appearance": 0.5, "network_prior": True, "normalise_features": True},
    {"running_share": 0.2}, {"coherence": 2.0},
    {"mixture_likelihood": 0.0, "mutual_features": 0.0, "maximisation": 0.0, "separation": 0.0},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("teacher", [False, True])
def test_every_variant_trains(make_batch: Make, variant: dict[str, Any], teacher: bool) -> None:
    objective = plain_loss(4, 3, **{**ALL_TERMS, **variant}).double()
    images = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        # In the last step images have few classes, so that only some are computed.
        batch = make_batch(seed=seed, candidates="image", padding=True, teacher=teacher)
        batch["images"] = images if "images" in objective.needs else None
        out = objective(**batch)
        out.loss.backward()
        assert out.loss.isfinite()
        names = ["logits", "features"][: 1 + (variant.get("separation") != 0)]
        for name in names:  # without the last terms nothing reaches the features
            assert batch[name].grad.isfinite().all()
            assert seed == 0 or (batch[name].grad != 0).any()  # running centres: from the second on
        torch.testing.assert_close(out.posterior.sum(1), torch.ones(2, 3, 4).double())
    assert objective.mixture.variances.isfinite().all()
    assert (objective.mixture.mass > 0).any()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_leaving_classes_out_changes_nothing(
    make_batch: Make, monkeypatch: pytest.MonkeyPatch, variant: dict[str, Any]
) -> None:
    results = []
    for few in (True, False):
        if not few:
            monkeypatch.setattr("agmm.mixture.compact.choose_classes", lambda *_: None)
        objective = plain_loss(9, 3, **{**ALL_TERMS, **variant}).double()
        images = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(1))
        for seed in range(3):
            batch = make_batch(seed=seed, classes=9, candidates="image", teacher=True)
            batch["seeds"][batch["seeds"] > 4] = 255
            batch["candidates"][:, 5:] = False
            out = objective(**batch, images=images)
        results.append((out.loss, out.posterior, *objective.mixture.state_dict().values()))
    for some, every in zip(*results, strict=True):
        torch.testing.assert_close(some, every)


def test_normalised_features_make_the_length_irrelevant(make_batch: Make) -> None:
    losses = []
    for factor in (1.0, 7.0):
        objective = plain_loss(4, 3, **ALL_TERMS, normalise_features=True).double()
        for seed in range(2):
            batch = make_batch(seed=seed)
            out = objective(**{**batch, "features": factor * batch["features"]})
        losses.append(out.loss)
    torch.testing.assert_close(losses[0], losses[1])


def test_seeds_alone_make_centres_of_the_seeds(make_batch: Make) -> None:
    objective = plain_loss(4, 3, unlabelled_weight=0.0).double()
    batch = make_batch(pixels=(3, 4), labelled=0.5)
    objective(**batch)
    features, seeds = batch["features"].detach().movedim(1, -1), batch["seeds"]
    for k in seeds[seeds != 255].unique():
        torch.testing.assert_close(objective.mixture.means[k], features[seeds == k].mean(0))


def test_needs_say_what_a_call_takes() -> None:
    assert plain_loss(2, 3).needs == {"teacher"}
    assert plain_loss(2, 3, teacher=False, appearance=1.0).needs == {"images"}
    assert plain_loss(2, 3, coherence=1.0).needs == {"teacher", "images"}


def test_without_an_image_cells_stand_alone(make_batch: Make) -> None:
    options = {**ALL_TERMS, "coherence": 5.0}
    without, alone, coloured = (
        plain_loss(4, 3, **{**options, **other}).double() for other in ({}, {"coherence": 0.0}, {})
    )
    images = torch.zeros(2, 3, 6, 8)  # all of one colour, where neighbours count most
    for seed in range(2):
        batch = make_batch(seed=seed)
        found, expected = without(**batch), alone(**batch)
        torch.testing.assert_close(found.loss, expected.loss)
        torch.testing.assert_close(found.posterior, expected.posterior)
        assert coloured(**batch, images=images).loss != found.loss
    assert without.eval()(**batch).support is None


def test_colour_and_position_need_the_image(make_batch: Make) -> None:
    objective, batch = plain_loss(4, 3, appearance=1.0).double(), make_batch()
    calls: list[Callable[[], object]] = [
        lambda: objective(**batch),
        lambda: objective.unlabelled_posterior(batch["logits"], batch["features"]),
        lambda: objective.image_vectors(batch["features"]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"^images: expected .* appearance .* got None; "):
            call()


@pytest.mark.parametrize(
    ("images", "came"),
    [
        (torch.zeros(2, 3, 3, 4), "(2, 3, 3, 4)"), (torch.zeros(1, 3, 6, 8), "(1, 3, 6, 8)"),
        (torch.zeros(2, 1, 6, 8), "(2, 1, 6, 8)"), (torch.zeros(3, 6, 8), "(3, 6, 8)"),
        (torch.zeros(2, 3, 6, 8, dtype=torch.uint8), "torch.uint8"),
    ],
)  # fmt: skip
def test_wrong_images_are_named(make_batch: Make, images: torch.Tensor, came: str) -> None:
    objective, batch = plain_loss(4, 3, coherence=1.0).double(), make_batch()
    with pytest.raises(InputError, match=rf"^images: expected .* got {re.escape(came)}; "):
        objective(**batch, images=images)
    with pytest.raises(InputError, match=rf"^images: expected .* got {re.escape(came)}; "):
        objective.unlabelled_posterior(batch["logits"], batch["features"], images=images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"centres": "seeds"},
            "centres: expected one of image, batch, running, pixels, got 'seeds'",
        ),
        ({"variance": "full"}, "variance: expected one of class, shared, fixed"),
        ({"components": 0}, "components: expected at least 1, got 0"),
        ({"components": 2}, "need running centres"),
        ({"running_share": 1.0}, "running_share: expected 0 to below 1, got 1.0"),
    ],
)
def test_unknown_choices_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choices(**options).check()


@pytest.mark.usefixtures("without_type_checks")
def test_an_unknown_confidence_is_refused() -> None:
    wrong: Any = "sure"
    with pytest.raises(ConfigError, match="confidence: expected one of largest, agreement, none"):
        plain_loss(4, 3, confidence=wrong)
