"""All forms of one picture, drawn from one seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agmm.errors import ConfigError
from agmm.labels.annotations import Annotation, Boxes, Points, Tags
from agmm.labels.contradictions import contradictions
from agmm.labels.forms import FORMS
from agmm.labels.protocol import Protocol, annotate
from agmm.shapes import IGNORE_INDEX, MaskArray


def scene() -> MaskArray:
    """Three objects on a ground, one of them with a crumb of 4 pixels, and void."""
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[5:25, 5:30], mask[35:55, 10:40], mask[20:50, 50:75] = 1, 2, 1
    mask[2:4, 60:62], mask[50:, 76:] = 1, IGNORE_INDEX
    return mask


def values(annotation: Annotation) -> list[object]:
    return [value.tolist() for value in vars(annotation).values()]


def test_without_errors_no_two_forms_contradict_each_other() -> None:
    labels = annotate(scene(), FORMS[:-1], Protocol(block_size=8), key="a", background=0)
    assert list(labels) == ["points", "scribbles", "blocks", "boxes", "tags"]
    assert contradictions(list(labels.values()), (60, 80), 3, background=0) == ()
    points, boxes, tags = labels["points"], labels["boxes"], labels["tags"]
    assert isinstance(points, Points)
    assert isinstance(boxes, Boxes)
    assert isinstance(tags, Tags)
    assert sorted(points.classes.tolist()) == [0, 1, 1, 2]  # no click on the crumb
    assert boxes.classes.tolist() == [1, 1, 2]
    assert tags.classes.tolist() == [1, 2]


def test_the_dense_form_is_the_mask_itself() -> None:
    dense = annotate(scene(), ("dense",), Protocol(), key="a", background=0)["dense"]
    assert values(dense) == [scene().tolist()]


def test_a_label_depends_on_seed_and_key_only() -> None:
    def drawn(seed: int = 0, key: str = "train/a") -> dict[str, list[object]]:
        labels = annotate(scene(), FORMS, Protocol(seed=seed), key=key, background=0)
        return {form: values(label) for form, label in labels.items()}

    first = drawn()
    assert drawn() == first
    alone = annotate(scene(), ("blocks",), Protocol(), key="train/a", background=0)
    assert values(alone["blocks"]) == first["blocks"]
    for other in (drawn(seed=1), drawn(key="train/b")):
        for form in ("points", "scribbles", "blocks"):
            assert other[form] != first[form]
        for form in ("boxes", "tags", "dense"):
            assert other[form] == first[form]


def test_errors_change_the_clicks_and_boxes_that_are_wrong_and_no_others() -> None:
    right, noisy = Protocol(clicks_per_class=50), Protocol(clicks_per_class=50, wrong_clicks=0.1)
    before, after = (
        annotate(scene(), ("points",), protocol, key="a", background=0)["points"]
        for protocol in (right, noisy)
    )
    assert isinstance(before, Points)
    assert isinstance(after, Points)
    kept = {tuple(xy) for xy in before.xy.tolist()} & {tuple(xy) for xy in after.xy.tolist()}
    assert 120 < len(kept) < 150
    loose = annotate(scene(), ("boxes",), Protocol(box_jitter=0.2), key="a", background=0)["boxes"]
    tight = annotate(scene(), ("boxes",), Protocol(), key="a", background=0)["boxes"]
    assert values(loose) != values(tight)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("min_pixels", 0),
        ("clicks_per_class", 0),
        ("wrong_clicks", 1.5),
        ("stroke_width", 0),
        ("block_share", 0.0),
        ("block_size", 0),
        ("box_jitter", 0.5),
    ],
)
def test_a_value_out_of_range_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be"):
        replace(Protocol(), **{name: value})
