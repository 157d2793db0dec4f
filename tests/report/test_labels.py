"""Pictures of labels."""

import numpy as np
import pytest

from agmm.datasets.classes import Classes
from agmm.errors import DataError
from agmm.labels.annotations import Annotation, Blocks, Boxes, DenseMask, Points, Scribbles, Tags
from agmm.report.labels import draw_annotation

CLASSES = Classes(("background", "cat", "dog"), ((0, 0, 0), (200, 0, 0), (0, 200, 0)))
GREY = np.full((40, 60, 3), 100, np.uint8)


def block_mask() -> np.ndarray:
    mask = np.full((40, 60), 255, np.uint8)
    mask[10:12, 20:22] = 1
    return mask


def test_boxes_are_frames_inside_their_corners() -> None:
    boxes = Boxes(np.array([[10.0, 5.0, 30.0, 25.0], [59, 39, 60, 40]]), np.array([1, 2], np.uint8))
    drawn = draw_annotation(GREY, boxes, CLASSES)
    framed = (drawn == (200, 0, 0)).all(axis=2)
    assert np.argwhere(framed).min(axis=0).tolist() == [5, 10]
    assert np.argwhere(framed).max(axis=0).tolist() == [24, 29]
    assert framed.sum() == 4 * 19
    assert drawn[39, 59].tolist() == [0, 200, 0]
    assert (GREY == 100).all()


def test_small_blocks_are_no_clicks() -> None:
    drawn = draw_annotation(GREY, Blocks(block_mask()), CLASSES)
    changed = (drawn != 100).any(axis=2)
    assert changed.sum() == 4
    assert drawn[10, 20].tolist() == [180, 20, 20]


@pytest.mark.parametrize("kind", [Points.from_mask, Scribbles])
def test_clicks_are_discs(kind: type[Scribbles]) -> None:
    drawn = draw_annotation(GREY, kind(block_mask()), CLASSES)
    assert (drawn == (200, 0, 0)).all(axis=2).sum() > 12


def test_a_dense_mask_covers_the_picture() -> None:
    mask = np.ones((40, 60), np.uint8)
    assert (draw_annotation(GREY, DenseMask(mask), CLASSES) == (200, 0, 0)).all()


def test_tags_are_a_list_on_the_pale_picture() -> None:
    drawn = draw_annotation(GREY, Tags(np.array([2], np.uint8)), CLASSES)
    assert drawn.shape == (300, 450, 3)
    assert (drawn == (0, 200, 0)).all(axis=2).sum() == 12 * 12
    assert drawn[-1, 0].tolist() == [200, 200, 200]
    none = draw_annotation(GREY, Tags(np.zeros(0, np.uint8)), CLASSES)
    assert (none == 200).all()


@pytest.mark.parametrize(
    "annotation",
    [
        Tags(np.array([3], np.uint8)),
        Boxes(np.array([[10, 5, 70, 25]]), np.array([1], np.uint8)),
        Scribbles(np.zeros((3, 3), np.uint8)),
    ],
)
def test_a_label_that_does_not_fit_is_refused(annotation: Annotation) -> None:
    with pytest.raises(DataError):
        draw_annotation(GREY, annotation, CLASSES)
