import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from agmm.data.transforms import (
    Candidates,
    RandomHue,
    RandomScale,
    Seeds,
    Valid,
    normalise,
    training_view,
    turn_hue,
)

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
CROPS = st.tuples(st.integers(1, 48), st.integers(1, 48))
FACTORS = st.floats(0.25, 3)


def viewed(view: Any, *inputs: Tensor, seed: int) -> tuple[Tensor, ...]:
    """The view with this seed of torch's generator, as plain tensors without a channel axis."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        results = view(*inputs)
    return tuple(result.as_subclass(Tensor) for result in results)


def inputs_for(image: np.ndarray, seeds: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    return (
        tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
        Seeds(torch.from_numpy(seeds)[None]),
        Valid(torch.ones((1, *seeds.shape), dtype=torch.uint8)),
    )


def black(size: tuple[int, int]) -> np.ndarray:
    return np.zeros((*size, 3), np.uint8)


def centre_of_box(box: Tensor, axis: int, side: float) -> float:
    """Where the centre of a box of this side went, also if the crop's first border cuts it."""
    first, last = float(box[axis]), float(box[axis + 2])
    return last - side / 2 if first <= 0 else first + side / 2


@given(size=SIZES, crop=CROPS, factor=FACTORS, seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=200)
def test_a_click_survives_when_it_lies_inside_of_the_crop(
    size: tuple[int, int], crop: tuple[int, int], factor: float, seed: int, data: st.DataObject
) -> None:
    y, x = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    seeds = np.full(size, 255, np.uint8)
    seeds[y, x] = 7
    # torchvision's own geometry of boxes says where the clicked pixel goes.
    box = tv_tensors.BoundingBoxes([[x, y, x + 1.0, y + 1.0]], format="XYXY", canvas_size=size)
    view = training_view(scale=(factor, factor), crop=crop, color_jitter=0.0)

    _, result, _, place = viewed(view, *inputs_for(black(size), seeds), box, seed=seed)

    scaled = [max(1, round(side * factor)) for side in size]
    row = centre_of_box(place[0], 1, scaled[0] / size[0])
    column = centre_of_box(place[0], 0, scaled[1] / size[1])
    assume(min(abs(row), abs(column), abs(row - crop[0]), abs(column - crop[1])) > 1e-3)
    if not (0 < row < crop[0] and 0 < column < crop[1]):
        assert factor > 1 or not (result != 255).any()
        return
    rows = {math.floor(row - 1e-3), math.floor(row + 1e-3)}  # a centre may lie on an edge
    columns = {math.floor(column - 1e-3), math.floor(column + 1e-3)}
    found = {tuple(p) for p in (result[0] == 7).nonzero().tolist()}
    assert found & {(r, c) for r in rows for c in columns}
    assert set(result.flatten().tolist()) <= {7, 255}
    if factor <= 1:
        assert len(found) == 1


@given(size=SIZES, crop=CROPS, factor=FACTORS, seed=st.integers(0, 2**32))
@settings(max_examples=100)
def test_padding_is_invalid_unlabelled_and_black(
    size: tuple[int, int], crop: tuple[int, int], factor: float, seed: int
) -> None:
    image, seeds = black(size) + np.uint8(200), np.zeros(size, np.uint8)
    view = training_view(scale=(factor, factor), crop=crop, color_jitter=0.0)

    picture, labels, valid = viewed(view, *inputs_for(image, seeds), seed=seed)

    assert picture.shape[1:] == labels.shape[1:] == valid.shape[1:] == crop
    scaled = [max(1, round(side * factor)) for side in size]
    assert valid.sum() == min(scaled[0], crop[0]) * min(scaled[1], crop[1])
    inside = valid[0].bool()
    assert (labels[0][~inside] == 255).all()
    assert (labels[0][inside] == 0).all()
    assert (picture[:, ~inside] == 0).all()
    assert (picture[:, inside] == 200).all()


def test_candidates_go_with_their_pixels_and_padding_allows_all() -> None:
    seeds = np.full((4, 6), 255, np.uint8)
    seeds[1, 4] = 0
    planes = np.zeros((2, 4, 6), np.uint8)
    planes[0, 1, 4], planes[1, :, :3] = 1, 1
    view = training_view(scale=(0.5, 0.5), crop=(4, 4), color_jitter=0.0)

    _, labels, valid, allowed = viewed(
        view, *inputs_for(black((4, 6)), seeds), Candidates(torch.from_numpy(planes)), seed=0
    )

    inside = valid[0].bool()
    assert inside.sum() == 2 * 3
    assert allowed.dtype == torch.uint8
    assert (allowed[:, ~inside] == 1).all()
    assert torch.equal(allowed[0][inside] == 1, labels[0][inside] == 0)
    # Three columns of six become one and a half: the half counts, as one of its pixels allows it.
    assert allowed[1][inside].sum() == 2 * 2


@given(seed=st.integers(0, 2**32), factor=FACTORS, crop=CROPS)
@settings(max_examples=60)
def test_no_class_is_invented_and_unlabelled_is_never_one(
    seed: int, factor: float, crop: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.choice(np.array([0, 1, 254], np.uint8), (20, 25))
    empty = np.full((20, 25), 255, np.uint8)
    view = training_view(scale=(factor, factor), crop=crop, color_jitter=0.0)

    _, of_dense, valid = viewed(view, *inputs_for(black((20, 25)), dense), seed=seed)
    _, of_empty, _ = viewed(view, *inputs_for(black((20, 25)), empty), seed=seed)

    assert set(of_dense[valid.bool()].tolist()) <= {0, 1, 254}
    assert set(of_empty.flatten().tolist()) == {255}


def test_picture_and_seeds_stay_aligned() -> None:
    colors = np.array([[250, 10, 30], [20, 240, 60], [40, 70, 230]], np.uint8)
    dense = np.repeat([0, 1, 2], [20, 24, 20])[None].repeat(48, 0).astype(np.uint8)
    dense[:10] = 2
    seeds = np.full((48, 64), 255, np.uint8)
    seeds[20:40, [6, 12, 32, 56, 57]] = dense[20:40, [6, 12, 32, 56, 57]]
    seeds[3, 10:50] = 2
    view = training_view(scale=(0.6, 2.0), crop=(40, 40), color_jitter=0.0)
    seen = set()

    for seed in range(40):
        picture, labels, valid = viewed(view, *inputs_for(colors[dense], seeds), seed=seed)
        labelled = labels[0] != 255
        seen |= set(labels[labels != 255].tolist())
        expected = torch.from_numpy(colors)[labels[0][labelled].long()]
        # The resized picture is rounded to whole grey levels.
        difference = picture[:, labelled].T.int() - expected.int()
        assert difference.abs().max() <= 1
        assert valid[0][labelled].all()

    assert seen == {0, 1, 2}


def test_at_scale_1_the_view_is_the_picture_or_its_mirror_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    seeds = np.random.default_rng(1).integers(0, 4, (12, 9), np.uint8)
    view = training_view(scale=(1.0, 1.0), crop=(12, 9), color_jitter=0.0)
    mirrored = []

    for seed in range(20):
        picture, labels, valid = viewed(view, *inputs_for(image, seeds), seed=seed)
        flip = not np.array_equal(labels[0].numpy(), seeds)
        mirrored.append(flip)
        turn = -1 if flip else 1
        assert np.array_equal(labels[0].numpy(), seeds[:, ::turn])
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), image[:, ::turn])
        assert valid.all()

    assert 3 < sum(mirrored) < 17


def test_color_jitter_changes_the_colours_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    seeds = np.random.default_rng(1).integers(0, 4, (12, 9), np.uint8)
    options: dict[str, Any] = {"scale": (0.5, 2.0), "crop": (20, 20)}

    plain = viewed(training_view(**options, color_jitter=0.0), *inputs_for(image, seeds), seed=3)
    jittered = viewed(training_view(**options, color_jitter=1.0), *inputs_for(image, seeds), seed=3)

    assert not torch.equal(plain[0], jittered[0])
    assert torch.equal(plain[1], jittered[1])
    assert torch.equal(plain[2], jittered[2])


def coloured(*rgb: int) -> Tensor:
    return torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1)


@pytest.mark.parametrize("rgb", [(200, 80, 80), (90, 140, 100), (60, 60, 180), (120, 110, 70)])
@pytest.mark.parametrize("part", [-0.1, -0.03, 0.03, 0.1])
def test_the_hue_is_turned_as_in_hsv(rgb: tuple[int, int, int], part: float) -> None:
    """The circle of HSV is a hexagon, whose angles are up to 1.2 degrees off; then rounding."""
    turned = turn_hue(coloured(*rgb), part).flatten().tolist()
    hues = [colorsys.rgb_to_hsv(*colour)[0] for colour in (rgb, turned)]
    difference = (hues[1] - hues[0] - part + 0.5) % 1 - 0.5
    assert abs(difference) < 2 * 1.2 / 360 + 2 / (max(rgb) - min(rgb)) / 6
    assert abs(sum(turned) - sum(rgb)) <= 1.5


@given(image=st.lists(st.integers(0, 255), min_size=3, max_size=3), part=st.floats(-0.5, 0.5))
def test_turning_the_hue_leaves_greys_and_every_colour_at_0_and_1(
    image: list[int], part: float
) -> None:
    grey, colour = coloured(image[0], image[0], image[0]), coloured(*image)
    assert torch.equal(turn_hue(grey, part), grey)
    assert torch.equal(turn_hue(colour, 0.0), colour)
    assert torch.equal(turn_hue(colour, 1.0), colour)


def test_the_hue_is_drawn_uniformly_both_ways() -> None:
    hue = RandomHue(0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = np.array([hue.make_params([])["part"] for _ in range(400)])
    assert -0.1 <= parts.min() < -0.09
    assert 0.09 < parts.max() <= 0.1
    assert abs(parts.mean()) < 4 * 0.2 / math.sqrt(12 * 400)


def test_the_scale_is_uniform_between_its_limits() -> None:
    scale = RandomScale(0.5, 2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = [
            scale.make_params([tv_tensors.Image(torch.zeros(3, 1000, 2000))])["size"]
            for _ in range(400)
        ]

    heights, widths = np.array(sizes).T
    assert heights.min() >= 500
    assert heights.max() <= 2000
    assert abs(heights.mean() - 1250) < 4 * 1500 / math.sqrt(12 * 400)
    np.testing.assert_allclose(widths, 2 * heights, atol=1)


def test_the_smallest_picture_keeps_a_pixel() -> None:
    size = RandomScale(0.1, 0.1).make_params([tv_tensors.Image(torch.zeros(3, 1, 30))])["size"]

    assert size == [1, 3]


def test_normalise_against_numpy() -> None:
    image = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    result = normalise(image, mean, std)

    channels = image.numpy() / 255
    expected = (channels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)
