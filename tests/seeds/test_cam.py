"""Class activation maps: values by hand, a slow refinement, thresholds, real edges."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from agmm.data.transforms import normalise
from agmm.errors import ConfigError, InputError
from agmm.models.classifier import Classifier, build_classifier
from agmm.seeds.cam import (
    activation_maps,
    cam_seeds,
    refine_maps,
    strongest_maps,
)
from agmm.shapes import ImageArray


class Colours(nn.Module):
    """An encoder whose features are the mean colours of its cells."""

    num_features = 3
    feature_info = ({"reduction": 4},)

    def forward_features(self, images: Tensor) -> Tensor:
        return avg_pool2d(images, 4)


@pytest.fixture
def colours() -> Classifier:
    """A classifier whose map of class k is the picture's channel k."""
    model = Classifier(Colours(), 3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(3)[..., None, None])
        assert model.head.bias is not None
        model.head.bias.zero_()
    return model


def half_red(height: int = 16, width: int = 24) -> ImageArray:
    """Red at the left, dark blue at the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    image[:, width // 2 :, 2] = 50
    return image


def test_maps_are_the_classes_scores_over_their_maximum(colours: Classifier) -> None:
    maps = activation_maps(
        colours, half_red(), [2, 0], device="cpu", scales=[1.0], flip=False, refine=0
    )
    assert maps.shape == (2, 16, 24)
    # Bilinear between the cells: exact one cell away from the edge of the colours.
    assert (maps[1, :, :10] == 1).all()
    assert (maps[0, :, :10] == 0).all()
    assert (maps[0, :, 14:] == 1).all()  # dark, but the strongest that its class has
    assert (maps[1, :, 14:] == 0).all()


def test_a_class_that_is_nowhere_above_0_stays_0(colours: Classifier) -> None:
    with torch.no_grad():
        assert colours.head.bias is not None
        colours.head.bias[1] = -1.0
    maps = activation_maps(colours, half_red(), [1], device="cpu")
    assert (maps == 0).all()


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (5, 50), (1, 1)])
def test_a_mirrored_picture_has_mirrored_maps(size: tuple[int, int]) -> None:
    """With flips this holds of every network, whatever cells the edges of the picture cut."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    model = build_classifier("resnet10t", "none", num_classes=3)
    options: dict[str, Any] = {"device": "cpu", "scales": [1.0, 2.0], "flip": True, "refine": 5}
    maps = activation_maps(model, image, [0, 1, 2], **options)
    mirrored = activation_maps(model, image[:, ::-1], [0, 1, 2], **options)
    torch.testing.assert_close(mirrored.flip(-1), maps, atol=1e-4, rtol=1e-4)
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize("scale", [0.5, 1.3, 2.0])
def test_maps_of_every_scale_lie_over_the_picture(colours: Classifier, scale: float) -> None:
    """A ramp that reaches the far corner stays the same ramp, padding or not."""
    ramp = np.linspace(0, 250, 70)
    image = np.zeros((50, 70, 3), np.uint8)
    image[..., 0] = ramp
    maps = activation_maps(colours, image, [0], device="cpu", scales=[scale], flip=False, refine=0)
    inner = slice(12, -12)  # at the border the outer cells are constant, or darkened by padding
    got = maps[0, 25, inner].numpy()
    factor = (ramp[inner] @ got) / (got @ got)
    np.testing.assert_allclose(factor * got, ramp[inner], atol=2)


def test_scales_are_averaged(colours: Classifier) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    options: dict[str, Any] = {"device": "cpu", "flip": False, "refine": 0}
    both = activation_maps(colours, image, [0], scales=[0.5, 1.0], **options)
    each = [activation_maps(colours, image, [0], scales=[scale], **options) for scale in (0.5, 1.0)]
    assert (both - each[0]).abs().max() > 0.05
    assert (both - each[1]).abs().max() > 0.05
    assert both.max() == pytest.approx(1.0, abs=0.05)


def test_no_class_no_map(colours: Classifier) -> None:
    assert activation_maps(colours, half_red(), [], device="cpu").shape == (0, 16, 24)


def test_maps_may_be_changed_and_the_picture_stays(colours: Classifier) -> None:
    image = half_red()
    image.flags.writeable = False
    maps = activation_maps(colours, image, [0], device="cpu")
    maps += 1
    maps.requires_grad_()
    assert not maps.is_inference()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": []}, "scales: expected one or more factors above 0"),
        ({"scales": [0.0]}, "scales: expected one or more factors above 0"),
        ({"refine": -1}, "refine: expected at least 0 iterations, got -1"),
    ],
)
def test_bad_options(
    colours: Classifier, options: dict[str, list[float] | int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        activation_maps(colours, half_red(), [0], device="cpu", **options)  # type: ignore[arg-type]


def test_a_class_that_the_classifier_does_not_know(colours: Classifier) -> None:
    with pytest.raises(InputError, match="classes: expected 0 to 2, got 3"):
        activation_maps(colours, half_red(), [0, 3], device="cpu")


def slowly_refined(maps: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """One iteration, cell by cell, straight from the formula in float64."""
    _, height, width = maps.shape
    offsets = [
        (d * y, d * x) for d in (1, 2, 4, 8, 12) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x
    ]
    steps = np.array([np.hypot(y, x) for y, x in offsets])
    near = np.exp(-((steps / (0.3 * steps.std(ddof=1))) ** 2))
    near /= near.sum()
    result = np.zeros_like(maps)
    for i in range(height):
        for j in range(width):
            places = [
                (min(max(i + y, 0), height - 1), min(max(j + x, 0), width - 1)) for y, x in offsets
            ]
            around = np.array([picture[:, y, x] for y, x in places])
            scaled = (around - picture[:, i, j]) / (0.3 * (around.std(0, ddof=1) + 1e-6))
            like = np.exp(-(scaled**2).mean(1))
            weights = (like / like.sum() + 0.01 * near) / 1.01
            for weight, (y, x) in zip(weights, places, strict=True):
                result[:, i, j] += weight * maps[:, y, x]
    return result


def test_refinement_against_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    maps, picture = rng.random((2, 7, 9)), rng.random((3, 7, 9))
    expected = slowly_refined(slowly_refined(maps, picture), picture)
    result = refine_maps(torch.from_numpy(maps), torch.from_numpy(picture), 2)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=30)
def test_refinement_stays_within_the_maps(
    seed: int, height: int, width: int, iterations: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, height, width, generator=generator)
    maps[1] = 0.5
    refined = refine_maps(maps, torch.rand(3, height, width, generator=generator), iterations)
    assert refined.min() >= maps.min() - 1e-5
    assert refined.max() <= maps.max() + 1e-5
    torch.testing.assert_close(refined[1], maps[1])  # a mean of the same is the same


def test_refinement_moves_a_blurred_edge_to_the_pictures() -> None:
    truth = torch.zeros(1, 40, 40)
    truth[:, 10:30, 10:30] = 1
    blurred = avg_pool2d(truth[None], 15, stride=1, padding=7)[0]
    refined = refine_maps(blurred, truth.expand(3, -1, -1), 20)
    assert ((blurred > 0.5) != (truth > 0.5)).sum() > 20
    assert torch.equal(refined > refined.max() / 2, truth > 0.5)


SEEDS_OF = torch.tensor(
    [
        [[0.90, 0.60, 0.59, 0.10, 0.11, 0.00]],
        [[0.10, 0.55, 0.00, 0.10, 0.00, 0.95]],
    ]
)


def test_seeds_by_hand() -> None:
    seeds = cam_seeds(SEEDS_OF, [3, 7], 0, foreground=0.6, background_below=0.1, margin=0.1)
    # strong; close to another class; too weak; background; between; the other class
    assert seeds.tolist() == [[3, 255, 255, 0, 255, 7]]


def test_seeds_without_a_background_class() -> None:
    seeds = cam_seeds(SEEDS_OF, [3, 7], None, foreground=0.6, background_below=0.1, margin=0.1)
    assert seeds.tolist() == [[3, 255, 255, 255, 255, 7]]


def test_no_map_is_background_or_nothing() -> None:
    nothing = torch.zeros(0, 2, 3)
    assert (cam_seeds(nothing, [], 4) == 4).all()
    assert (cam_seeds(nothing, [], None) == 255).all()


@pytest.mark.parametrize("background", [0, None])
def test_maps_that_are_nowhere_above_0_say_nothing(background: int | None) -> None:
    """The classes are in the picture, so that it is not all background."""
    assert (cam_seeds(torch.zeros(2, 2, 3), [3, 7], background) == 255).all()
    one = torch.zeros(2, 2, 3)
    one[1, 0, 0] = 1
    assert (cam_seeds(one, [3, 7], background) == 7).sum() == 1


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 4),
    foreground=st.floats(0.3, 1),
    background=st.floats(0, 0.29),
    margin=st.floats(0, 1),
)
def test_stricter_thresholds_only_take_seeds_away(
    seed: int, n: int, foreground: float, background: float, margin: float
) -> None:
    maps = torch.rand(n, 6, 5, generator=torch.Generator().manual_seed(seed))
    classes = [9, 2, 250, 4][:n]
    seeds = cam_seeds(
        maps, classes, 0, foreground=foreground, background_below=background, margin=margin
    )
    loose = cam_seeds(maps, classes, 0, foreground=0.3, background_below=0.29, margin=0.0)
    assert set(np.unique(seeds)) <= {0, 255, *classes}
    assert ((seeds == 255) | (seeds == loose)).all()
    labelled = seeds[(seeds != 255) & (seeds != 0)]
    strongest = np.array([*classes, 0])[strongest_maps(maps, classes)[1]]
    assert np.array_equal(labelled, strongest[(seeds != 255) & (seeds != 0)])


def test_numbers_of_maps_and_classes_must_agree() -> None:
    with pytest.raises(InputError, match="got 2 maps and 1 classes"):
        cam_seeds(SEEDS_OF, [3], 0)
    with pytest.raises(InputError, match="got 2 maps and 3 classes"):
        strongest_maps(SEEDS_OF, [3, 4, 5])


def test_strongest_by_hand() -> None:
    best, index, second = strongest_maps(SEEDS_OF, [3, 7])
    np.testing.assert_array_equal(best[0, [0, 1, 5]], np.array([0.9, 0.6, 0.95], np.float32))
    assert index[0, [0, 1, 5]].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(second[0, [0, 1, 5]], np.array([0.1, 0.55, 0], np.float32))
    alone = strongest_maps(SEEDS_OF[:1], [3])
    assert (alone[2] == 0).all()
    assert np.array_equal(alone[0], SEEDS_OF[0].numpy())


def test_maps_find_the_objects_of_real_pictures(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head from the mean features of two tags' pictures knows where aeroplane and cat are."""
    monkeypatch.setenv("AGMM_WEIGHTS", str(shared / "weights"))
    model = build_classifier("mobilenetv2_100", "imagenet", num_classes=2).eval()
    root = shared / "data/voc_mini"
    lines = [line.split(",") for line in (root / "tags.csv").read_text().splitlines()]
    files = {name: [f for f, t in lines if t == name][:12] for name in ("aeroplane", "cat")}
    pictures = {
        file: np.array(Image.open(root / f"JPEGImages/{file}.jpg").convert("RGB"))
        for file in itertools.chain(*files.values())
    }
    with torch.inference_mode():
        means = torch.stack(
            [mean_features(model, [pictures[f] for f in fs]) for fs in files.values()]
        )
    with torch.no_grad():
        model.head.weight.copy_((means - means.mean(0))[..., None, None])
    inside, outside = np.zeros((2, 2)), np.zeros((2, 2))
    for k, (file, refine) in itertools.product(range(2), itertools.product(range(8), (0, 20))):
        name = list(files.values())[k][file]
        maps = activation_maps(
            model, pictures[name], [k], device="cpu", scales=[1.0], flip=False, refine=refine
        )
        mask = np.array(Image.open(root / f"SegmentationClass/{name}.png"))
        inside[k, int(refine > 0)] += maps[0].numpy()[(mask > 0) & (mask < 255)].mean() / 8
        outside[k, int(refine > 0)] += maps[0].numpy()[mask == 0].mean() / 8
    assert (inside > 1.5 * outside).all()
    assert (inside[:, 1] / outside[:, 1] > inside[:, 0] / outside[:, 0]).all()


def mean_features(model: Classifier, pictures: list[ImageArray]) -> Tensor:
    features = [
        model.encoder.forward_features(
            normalise(torch.from_numpy(p).permute(2, 0, 1), model.mean, model.std)[None]
        ).mean((0, 2, 3))
        for p in pictures
    ]
    return torch.stack(features).mean(0)
