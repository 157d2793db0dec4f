"""Views of pictures with tags: order and augmentation from the position alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agmm.data.tagged import TaggedViews
from agmm.data.transforms import training_view
from agmm.datasets.records import Record


@pytest.fixture
def views(tmp_path: Path) -> TaggedViews:
    """Three even pictures of brightness 0, 100 and 200; picture i is tagged with class i."""
    records = []
    for number in range(3):
        file = tmp_path / f"{number}.png"
        Image.fromarray(np.full((20, 30, 3), 100 * number, np.uint8)).save(file)
        records.append(Record(str(number), file, {}))
    view = training_view(scale=(0.5, 2.0), crop=(24, 24), color_jitter=0.0)
    return TaggedViews(
        records,
        np.eye(3, dtype=np.uint8),
        view,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        seed=4,
    )


def test_a_position_is_always_the_same_view(views: TaggedViews) -> None:
    torch.manual_seed(1)
    first, before = views[5], torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(3)
    again = views[5]
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["valid"], again["valid"])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn from the global state


def test_every_pass_shows_every_picture_with_its_tags(views: TaggedViews) -> None:
    for start in (0, 3, 6):
        samples = [views[start + i] for i in range(3)]
        shown = sorted(int(s["targets"].argmax()) for s in samples)
        assert shown == [0, 1, 2]
        for sample in samples:
            assert sample["targets"].sum() == 1
            brightness = sample["image"][:, sample["valid"]]
            expected = 100 / 255 * int(sample["targets"].argmax())
            torch.testing.assert_close(brightness, torch.full_like(brightness, expected))


def test_padding_is_not_valid(views: TaggedViews) -> None:
    samples = [views[position] for position in range(12)]
    assert {tuple(s["image"].shape) for s in samples} == {(3, 24, 24)}
    assert {tuple(s["valid"].shape) for s in samples} == {(24, 24)}
    assert any(not s["valid"].all() for s in samples)
    assert all((s["image"][:, ~s["valid"]] == 0).all() for s in samples)
