"""Foreground of boxes: where it lies, what it may be, and that it is always the same."""

import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agmm.datasets.images import read_image
from agmm.errors import DataError
from agmm.evaluation.label_quality import LabelQuality, label_quality
from agmm.labels.annotations import Boxes
from agmm.seeds.grabcut import grabcut_seeds


def boxes(*rows: tuple[float, float, float, float, int]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.uint8))


def picture(*squares: tuple[slice, slice], size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Dark squares on a light ground, with some noise."""
    image = np.full((*size, 3), 200)
    for square in squares:
        image[square] = (40, 60, 30)
    noise = np.random.default_rng(0).integers(-8, 9, image.shape)
    return (image + noise).astype(np.uint8)


SQUARE = (slice(20, 40), slice(30, 55))


def test_an_object_is_found_to_the_pixel() -> None:
    seeds = grabcut_seeds(picture(SQUARE), boxes((25, 15, 60, 45, 7)))

    expected = np.full((60, 80), 255)
    expected[SQUARE] = 7
    np.testing.assert_array_equal(seeds, expected)


def test_an_object_at_the_corner_of_the_picture_is_found() -> None:
    corner = (slice(0, 20), slice(60, 80))

    seeds = grabcut_seeds(picture(corner), boxes((55.5, 0, 80, 24.2, 3)))

    assert (seeds[corner] == 3).all()
    assert (seeds == 3).sum() == 400


def test_a_large_box_is_cut_at_a_smaller_size() -> None:
    square = (slice(100, 300), slice(100, 340))
    image = picture(square, size=(400, 450))

    seeds = grabcut_seeds(image, boxes((60, 70, 380, 330, 2)), side=60)

    truth = np.zeros((400, 450), np.uint8)
    truth[square] = 2
    quality = label_quality(seeds, truth, 3)
    assert quality.precision() > 0.95
    assert quality.recall([2]) > 0.95


def test_a_pixel_of_two_classes_is_unlabelled_and_one_class_is_united() -> None:
    two = boxes((25, 15, 60, 45, 7), (27, 17, 62, 42, 8))
    same = boxes((25, 15, 60, 45, 7), (27, 17, 62, 42, 7))

    assert (grabcut_seeds(picture(SQUARE), two) == 255).all()
    assert (grabcut_seeds(picture(SQUARE), same)[SQUARE] == 7).all()


def test_three_classes_on_one_pixel_are_no_class() -> None:
    three = boxes(*((25.0, 15.0, 60.0, 45.0, label) for label in (3, 5, 9)))

    assert (grabcut_seeds(picture(SQUARE), three) == 255).all()


def test_without_a_background_the_seeds_are_the_ellipse_in_the_middle() -> None:
    # The box is the whole picture: nothing to compare with. Axes 0.5: columns 10 to 29.
    seeds = grabcut_seeds(picture(size=(20, 40)), boxes((0, 0, 40, 20, 4)), core=0.5)

    assert np.flatnonzero(seeds[10] == 4).tolist() == list(range(10, 30))
    assert np.flatnonzero(seeds[:, 20] == 4).tolist() == list(range(5, 15))
    assert (seeds == 4).mean() == pytest.approx(np.pi / 16, rel=0.05)


def test_a_foreground_that_is_too_small_is_not_believed() -> None:
    dot = (slice(29, 31), slice(39, 41))
    box = boxes((10, 10, 70, 50, 4))

    found = grabcut_seeds(picture(dot), box, least=0.0)
    instead = grabcut_seeds(picture(dot), box, least=0.1)

    assert (found == 4).sum() == 4
    assert (instead == 4).mean() == pytest.approx(0.7**2 * np.pi / 4 * (60 * 40) / 4800, rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (30, 40)])
def test_pictures_of_one_colour_and_tiny_boxes_are_no_problem(size: tuple[int, int]) -> None:
    H, W = size
    image = np.full((H, W, 3), 128, np.uint8)

    for box in ((0, 0, 1, 1), (W - 1, H - 1, W, H), (0, 0, W, H), (0, 0, min(W, 2), 1)):
        seeds = grabcut_seeds(image, boxes((*box, 1)))
        assert set(np.unique(seeds[box[1] : box[3], box[0] : box[2]])) <= {1, 255}
        assert (seeds == 1).any()


def test_a_thin_box_in_a_huge_picture() -> None:
    seeds = grabcut_seeds(picture(size=(20, 3000)), boxes((0, 7, 3000, 8, 1)))

    assert (seeds[7] == 1).any()
    assert (np.delete(seeds, 7, axis=0) == 255).all()


def test_no_box_no_seeds() -> None:
    assert (grabcut_seeds(picture(SQUARE), boxes()) == 255).all()


@pytest.mark.parametrize("box", [(60, 45, 25, 15), (5, 5, 5, 9), (70, 50, 81, 60)])
def test_faulty_boxes_are_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match="box 1 of class 7"):
        grabcut_seeds(picture(), boxes((*box, 7)))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, Boxes]:
    H, W = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        x, y = draw(st.integers(0, W - 1)), draw(st.integers(0, H - 1))
        right, low = draw(st.integers(x + 1, W)), draw(st.integers(y + 1, H))
        rows.append((x, y, right, low, draw(st.integers(0, 3))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    levels = draw(st.sampled_from([1, 2, 256]))
    return rng.integers(0, levels, (H, W, 3)).astype(np.uint8), boxes(*rows)


@given(scenes())
@settings(max_examples=60)
def test_seeds_lie_in_boxes_of_their_class(scene: tuple[np.ndarray, Boxes]) -> None:
    image, given_boxes = scene

    seeds = grabcut_seeds(image, given_boxes)

    inside = np.zeros((256, *seeds.shape), np.bool_)
    inside[255] = True
    for (x, y, right, low), label in zip(
        given_boxes.xyxy.astype(int), given_boxes.classes, strict=True
    ):
        inside[label, y:low, x:right] = True
    assert np.take_along_axis(inside, seeds[None].astype(int), axis=0).all()


@given(scenes(), st.randoms())
@settings(max_examples=30)
def test_same_seeds_in_any_order_and_on_any_thread(
    scene: tuple[np.ndarray, Boxes], random: object
) -> None:
    image, given_boxes = scene
    shuffled = list(range(len(given_boxes.classes)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = Boxes(given_boxes.xyxy[shuffled], given_boxes.classes[shuffled])

    expected = grabcut_seeds(image, given_boxes)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(grabcut_seeds, [image] * 4, [given_boxes, other] * 2))

    for seeds in results:
        np.testing.assert_array_equal(seeds, expected)


def test_precision_on_real_boxes(shared: Path) -> None:
    root = shared / "data/voc_mini"
    names = (root / "ImageSets/Segmentation/train.txt").read_text().split()[::17]
    words = (root / "classes.txt").read_text().splitlines()
    classes = [word.split()[0] for word in words]

    def quality(name: str) -> LabelQuality:
        tree = ET.parse(root / f"Annotations/{name}.xml")
        rows = []
        for item in tree.iter("object"):
            corners = [float(item.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin")]
            ends = [float(item.findtext(f"bndbox/{c}", "")) for c in ("xmax", "ymax")]
            label = classes.index(item.findtext("name", ""))
            # VOC counts from 1, its maxima inclusive.
            rows.append((corners[0] - 1, corners[1] - 1, ends[0], ends[1], label))
        image = read_image(root / f"JPEGImages/{name}.jpg")
        truth = np.asarray(Image.open(root / f"SegmentationClass/{name}.png"))
        return label_quality(grabcut_seeds(image, boxes(*rows)), truth, len(classes))

    with ThreadPoolExecutor(2) as pool:
        first, *rest = pool.map(quality, names)
    total = sum(rest, start=first)

    assert len(names) == 59
    assert total.precision() >= 0.85
    assert total.recall(range(1, len(classes))) >= 0.7
