"""Leaving out the classes that cannot matter, and picking few pixels, changes nothing."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from agmm.mixture import AGMMLoss, kernels, partial_cross_entropy
from agmm.mixture.compact import choose_classes, class_logits, compact_grid
from agmm.mixture.gaussian import image_mixture, squared_distances, weighted_means
from agmm.mixture.grid import few_pixels, reduce_to_grid
from agmm.mixture.kernels import labelled_logits, pixel_logits
from tests.mixture.plain import plain_loss

Batch = dict[str, Any]
Make = Callable[..., Batch]
WEIGHTS: dict[str, Any] = dict.fromkeys(
    (
        "partial_cross_entropy", "mixture_likelihood", "mutual", "mutual_features",
        "maximisation", "separation",
    ),
    1.0,
)  # fmt: skip
SIZES = [((6, 8), (3, 4)), ((5, 7), (2, 3)), ((3, 4), (3, 4)), ((2, 3), (3, 4))]


def few_classes(batch: Batch, candidates: str) -> Batch:
    """The batch with seeds and candidates of four of its classes, two of them per image."""
    for b, chosen in enumerate(([1, 17], [5, 9])):
        seeds = batch["seeds"][b]
        seeds[seeds != 255] = torch.tensor(chosen)[seeds[seeds != 255] % 2]
        if candidates != "all":
            others = torch.ones(20, dtype=torch.bool)
            others[chosen] = False
            batch["candidates"][b, others] = False
            batch["candidates"][b, chosen[0]] = True
    return batch


def results(objective: AGMMLoss, batches: list[Batch]) -> list[torch.Tensor]:
    """Everything that comes out of some training steps, gradients and state included."""
    found = []
    for batch in batches:
        out = objective(**batch)
        gradients = torch.autograd.grad(out.loss, (batch["logits"], batch["features"]))
        found += [out.loss, *out.terms.values(), out.posterior, *gradients]
    return [*found, *objective.mixture.state_dict().values()]


@pytest.mark.parametrize("candidates", ["all", "image", "pixel"])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("teacher", "labelled"), [(False, 0.1), (True, 0.1), (True, 0.6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_same_as_with_all_classes_and_pixels(
    make_batch: Make,
    monkeypatch: pytest.MonkeyPatch,
    candidates: str,
    padding: bool,
    teacher: bool,
    labelled: float,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    options = {"classes": 20, "candidates": candidates, "padding": padding, "teacher": teacher}
    batches = [
        few_classes(make_batch(labelled=labelled, dtype=dtype, seed=s, **options), candidates)
        for s in range(3)
    ]
    batches[1]["seeds"].fill_(255)  # then the classes are known from before
    for prior in (False, True):
        one, two = (
            plain_loss(20, 3, **WEIGHTS, absent_class=1.0, warmup_steps=2, network_prior=prior)
            for _ in range(2)
        )
        picked = results(one, batches)
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)  # all plain
            plain = results(two, batches)
        for ours, theirs in zip(picked, plain, strict=True):
            assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("labelled", [0.1, 0.9])
@pytest.mark.parametrize("candidates", ["all", "image", "pixel"])
def test_only_classes_that_matter_are_left(
    make_batch: Make, candidates: str, labelled: float
) -> None:
    batch = few_classes(
        make_batch(classes=20, candidates=candidates, labelled=labelled), candidates
    )
    batch["seeds"][0, 0, 0], batch["seeds"][1, 0, 0] = 17, 9
    centred = torch.zeros(20, dtype=torch.bool)
    classes = choose_classes(batch["seeds"], batch["candidates"], centred)
    assert classes is not None
    for b, allowed in enumerate(({1, 17}, {5, 9})):
        real = classes.chosen[b][classes.real[b]].tolist()
        assert set(real) <= allowed
        seeds = batch["seeds"][b]
        assert set(seeds[seeds != 255].tolist()) <= set(real)
        assert len(set(classes.chosen[b].tolist())) == classes.chosen.shape[1] <= 2
    values = torch.randn(2, 20, 3)
    back = classes.put(classes.take(values))
    kept = torch.zeros(2, 20, dtype=torch.bool).scatter_(1, classes.chosen, value=True)
    torch.testing.assert_close(back, values * kept.unsqueeze(2))


def test_a_known_class_leaves_out_unknown_ones() -> None:
    seeds, centred = torch.full((2, 2, 2), 255), torch.tensor([True, False, False, False])
    given = torch.tensor([[True, True, False, False], [False, True, True, False]])
    classes = choose_classes(seeds, given, centred)
    assert classes is not None
    assert classes.chosen[classes.real].tolist() == [0, 1, 2]  # nothing is known of the second
    assert choose_classes(seeds, None, centred[1:].logical_not()) is None


def test_all_classes_where_a_cell_outside_the_picture_has_no_candidate(make_batch: Make) -> None:
    batch = few_classes(make_batch(classes=20, candidates="pixel", padding=True), "pixel")
    rest = (batch["seeds"], batch["candidates"], batch["valid"])
    grid = compact_grid(batch["logits"], batch["features"], *rest, torch.zeros(20).bool())
    assert grid.classes is None
    plain = reduce_to_grid(batch["logits"], batch["features"], *rest)
    assert torch.equal(grid.candidates, plain.candidates)
    assert torch.equal(grid.shares, plain.shares)


@pytest.mark.parametrize("interleaved", [False, True])
def test_logits_of_some_classes(make_batch: Make, interleaved: bool) -> None:
    batch = make_batch(padding=True, labelled=0.3, dtype=torch.float32)
    batch["seeds"].masked_fill_(batch["seeds"] == 3, 255)
    classes = choose_classes(batch["seeds"], None, torch.zeros(4).bool())
    assert classes is not None
    logits = batch["logits"].detach()
    if interleaved:
        logits = logits.contiguous(memory_format=torch.channels_last)
    plain = reduce_to_grid(logits, batch["features"], batch["seeds"], None, batch["valid"]).logits
    ours = class_logits(logits, batch["valid"], (3, 4), classes)
    torch.testing.assert_close(ours, classes.take(plain))


@pytest.mark.parametrize("labelled", [0.1, 0.6])
def test_no_padding_is_as_no_mask(make_batch: Make, labelled: float) -> None:
    batch = make_batch(teacher=True, candidates="image", labelled=labelled)
    masked = batch | {"valid": torch.ones_like(batch["seeds"], dtype=torch.bool)}
    ours, plain = (
        results(plain_loss(4, 3, **WEIGHTS), [given, given]) for given in (masked, batch)
    )
    torch.testing.assert_close(ours, plain)


def test_few_pixels_are_picked_and_many_are_not() -> None:
    pixels = torch.zeros(2, 4, 4, dtype=torch.bool)
    pixels[1, 2, 3] = True
    assert [place.tolist() for place in few_pixels(pixels) or ()] == [[1], [2], [3]]
    assert few_pixels(~pixels) is None


def features_of(interleaved: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, shares (one class without, one cell exactly in a centre) and running centres."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 12, generator=generator, dtype=torch.float64)
    shares = torch.rand(2, 4, 12, generator=generator, dtype=torch.float64)
    shares = shares * (torch.rand(2, 4, 12, generator=generator) < 0.4)
    shares[0, 1] = 0
    running = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    if interleaved:
        features = features.mT.contiguous().mT
    return features.requires_grad_(), shares, running


@pytest.mark.parametrize("interleaved", [False, True])
def test_image_mixture_is_that_of_the_plain_functions(interleaved: bool) -> None:
    features, shares, running = features_of(interleaved)
    means, mass = weighted_means(shares, features)
    means_or_running = torch.where((mass > 0).unsqueeze(2), means, running)
    expected = (means, squared_distances(features, means_or_running))
    ours = image_mixture(features, shares, running)
    torch.testing.assert_close(ours, expected)
    weights = [torch.randn(part.shape, dtype=torch.float64) for part in expected]
    torch.testing.assert_close(
        torch.autograd.grad(ours, features, weights),
        torch.autograd.grad(expected, features, weights),
    )
    assert torch.autograd.gradcheck(
        lambda values: image_mixture(values, shares, running), (features,)
    )


def test_image_mixture_does_not_look_at_values_elsewhere() -> None:
    given = (part.detach().to("meta") for part in features_of(interleaved=False))
    means, distances = image_mixture(*given)
    assert (means.shape, distances.shape) == ((2, 4, 3), (2, 4, 12))


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_gradient_of_pixel_logits(
    make_batch: Make,
    interleaved: bool,
    padding: bool,
    pixels: tuple[int, int],
    cells: tuple[int, int],
) -> None:
    batch = make_batch(pixels=pixels, cells=cells, padding=padding)
    logits, valid = batch["logits"].detach(), batch["valid"]
    if interleaved:
        logits = logits.contiguous(memory_format=torch.channels_last)
    labelled = batch["seeds"] != 255
    chosen = (labelled if valid is None else labelled & valid).nonzero(as_tuple=True)
    for some in (chosen, None):
        assert torch.autograd.gradcheck(
            lambda values, some=some: pixel_logits(values, valid, cells, some),
            (logits.requires_grad_(),),
        )


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_bands_change_nothing(
    make_batch: Make,
    monkeypatch: pytest.MonkeyPatch,
    interleaved: bool,
    dtype: torch.dtype,
    pixels: tuple[int, int],
    cells: tuple[int, int],
) -> None:
    batch = make_batch(pixels=pixels, cells=cells, padding=True, dtype=dtype)
    logits = batch["logits"].detach()
    if interleaved:
        logits = logits.contiguous(memory_format=torch.channels_last)
    logits.requires_grad_()
    chosen = ((batch["seeds"] != 255) & batch["valid"]).nonzero(as_tuple=True)
    found = []
    for band in (1, 2**20):
        monkeypatch.setattr(kernels, "BAND", band)
        values = pixel_logits(logits, batch["valid"], cells, chosen)
        weights = [torch.ones_like(value) * torch.arange(value.shape[-1]) for value in values]
        found.append((*values, *torch.autograd.grad(values, logits, weights)))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][1].shape == (len(chosen[0]), 4)


@pytest.mark.parametrize("adjusts", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("band", [1, 2**20])
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_labelled_logits_are_those_of_the_plain_functions(
    make_batch: Make,
    monkeypatch: pytest.MonkeyPatch,
    adjusts: bool,
    interleaved: bool,
    padding: bool,
    band: int,
    pixels: tuple[int, int],
    cells: tuple[int, int],
) -> None:
    batch = make_batch(pixels=pixels, cells=cells, padding=padding, labelled=0.7)
    logits, seeds, valid = batch["logits"].detach(), batch["seeds"], batch["valid"]
    if padding:
        seeds = seeds.masked_fill(~valid, 255)
    if interleaved:
        logits = logits.contiguous(memory_format=torch.channels_last)
        seeds = seeds.mT.contiguous().mT  # neither do the seeds lie row by row
    logits.requires_grad_()
    monkeypatch.setattr(kernels, "BAND", band)
    adjustment = torch.randn(logits.shape[1], dtype=torch.float64) if adjusts else None

    ours = labelled_logits(logits, seeds, valid, cells, adjustment)

    number = (seeds != 255).sum()
    adjusted = logits if adjustment is None else logits + adjustment[:, None, None]
    expected = (
        pixel_logits(logits, valid, cells)[0],
        number * partial_cross_entropy(adjusted, seeds),
    )
    torch.testing.assert_close(ours, expected)
    weights = [torch.randn(part.shape, dtype=torch.float64) for part in expected]
    (gradient,) = torch.autograd.grad(ours, logits, weights)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits, weights)[0])
    assert gradient.stride() == logits.stride()
    assert torch.autograd.gradcheck(
        lambda values: labelled_logits(values, seeds, valid, cells, adjustment), (logits,)
    )


def test_labelled_logits_of_half_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    seeds = torch.randint(3, (2, 8, 8), generator=generator)
    half = logits.bfloat16().requires_grad_()
    cells, total = labelled_logits(half, seeds, None, (4, 4))
    assert (cells.dtype, total.dtype) == (torch.float32, torch.float32)
    exact = half.detach().float().requires_grad_()
    expected = labelled_logits(exact, seeds, None, (4, 4))
    torch.testing.assert_close((cells, total), expected)
    gradients = [
        torch.autograd.grad([c.sum(), t], values)[0]
        for (c, t), values in (((cells, total), half), (expected, exact))
    ]
    assert gradients[0].dtype == torch.bfloat16
    torch.testing.assert_close(gradients[0].float(), gradients[1], atol=1e-2, rtol=1e-2)


COMPILED = """
import torch
from agmm.mixture import AGMMLoss
generator = torch.Generator().manual_seed(0)
logits = torch.randn(2, 4, 6, 8, generator=generator, requires_grad=True)
features = torch.randn(2, 3, 3, 4, generator=generator, requires_grad=True)
seeds = torch.randint(4, (2, 6, 8), generator=generator)
seeds[torch.rand(2, 6, 8, generator=generator) < 0.7] = 255
valid = torch.ones(2, 6, 8, dtype=torch.bool)
valid[0, :, 4:] = False
candidates = torch.rand(2, 4, generator=generator) < 0.5
candidates[:, 0] = True
options = {"warmup_steps": 3, "step_size": 0.5, "mixture_likelihood": 0.5}
plain, compiled = (AGMMLoss(4, 3, **options) for _ in range(2))
plain(logits, features, seeds, candidates, valid)
compiled.load_state_dict(plain.state_dict())
run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
for training in (True, True, True, False):
    plain.train(training), compiled.train(training)
    losses = [f(logits, features, seeds, candidates, valid).loss for f in (plain, run)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, (logits, features)) for loss in losses]
    torch.testing.assert_close(*gradients)
torch.testing.assert_close(plain.state_dict(), compiled.state_dict())
"""


def test_compiles_without_a_break() -> None:
    # In a process of its own: the shape checks of the tests wrap every function.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
