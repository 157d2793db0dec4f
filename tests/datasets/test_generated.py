"""The generated pictures of the demo."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agmm.datasets.generated import CLASSES, generate_picture, write_generated_dataset
from agmm.datasets.generated_objects import DRAWINGS, smooth_noise
from agmm.datasets.images import read_image
from agmm.datasets.masks import read_index_mask
from agmm.datasets.reader import read_dataset
from agmm.labels.annotations import Points
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray

SIZE = (48, 64)


@cache
def pictures() -> tuple[tuple[ImageArray, MaskArray], ...]:
    return tuple(generate_picture(np.random.default_rng(seed), SIZE) for seed in range(30))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "pool"
    write_generated_dataset(root, num_train=4, num_val=2, size=SIZE, seed=3)
    return root


def digest(root: Path) -> str:
    """One hash over the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def test_every_class_takes_a_fair_part_of_the_pixels() -> None:
    masks = np.stack([mask for _, mask in pictures()])
    share = np.bincount(masks.ravel(), minlength=len(CLASSES)) / masks.size
    assert len(share) == len(CLASSES)
    assert 0.5 < share[0] < 0.85
    assert share[1:].min() > 0.015


def test_color_alone_does_not_tell_the_classes_apart() -> None:
    """The best guess from the colour histogram of one half of the pictures, on the other half."""
    cells = np.concatenate([(image // 32).reshape(-1, 3) @ [64, 8, 1] for image, _ in pictures()])
    classes = np.concatenate([mask.ravel() for _, mask in pictures()])
    half, k = len(cells) // 2, len(CLASSES)
    counts = np.zeros((k, 512))
    np.add.at(counts, (classes[:half], cells[:half]), 1)
    guess, truth = counts.argmax(axis=0)[cells[half:]], classes[half:]
    hits = [((guess == i) & (truth == i)).sum() for i in range(k)]
    ious = [hits[i] / ((guess == i) | (truth == i)).sum() for i in range(k)]
    assert 0.15 < np.mean(ious) < 0.45


def test_pictures_are_textured_and_neither_black_nor_white() -> None:
    for image, mask in pictures():
        clipped = ((image == 0) | (image == 255)).all(axis=2).mean()
        assert clipped < 0.3
        assert image[mask == 0].std(axis=0).min() > 4


def test_small_pictures_and_odd_sizes_can_be_drawn() -> None:
    image, mask = generate_picture(np.random.default_rng(0), (17, 31))
    assert image.shape == (17, 31, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (17, 31)
    assert mask.dtype == np.uint8


@pytest.mark.parametrize("name", CLASSES.names[1:])
def test_every_object_fits_into_its_frame(name: str) -> None:
    v, u = np.meshgrid(*[np.linspace(-3, 3, 121, dtype=np.float32)] * 2, indexing="ij")
    for seed in range(8):
        level, pattern = DRAWINGS[name](u, v, np.random.default_rng(seed))
        inside = level > 0
        assert inside[50:71, 50:71].any()
        assert not inside[np.hypot(u, v) > 2].any()
        assert np.isfinite(pattern).all()
        assert 0.2 < inside.mean() * 36 < np.pi * 1.5**2  # area in squared radii


def test_noise_has_the_spread_it_promises() -> None:
    noise = smooth_noise(np.random.default_rng(0), (200, 300), 4.0)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(1, abs=0.15)
    step = np.abs(np.diff(noise, axis=1)).mean()
    assert step < 0.4


def test_the_layout_can_be_read(written: Path) -> None:
    dataset = read_dataset(written)

    assert dataset.classes == CLASSES
    assert not dataset.skipped
    assert {split: len(records) for split, records in dataset.splits.items()} == {
        "train": 4,
        "val": 2,
    }
    for record in dataset.split("train"):
        assert set(record.labels) == {"dense", "scribbles", "points"}
    for record in dataset.split("val"):
        assert set(record.labels) == {"dense"}


def test_weak_labels_agree_with_the_mask_and_name_every_class(written: Path) -> None:
    for record in read_dataset(written).split("train"):
        mask = read_index_mask(written / "masks" / "train" / f"{record.name}.png", CLASSES)
        strokes = read_index_mask(written / "scribbles" / "train" / f"{record.name}.png", CLASSES)
        points = record.labels["points"]()
        assert isinstance(points, Points)
        cols, rows = points.xy.T
        drawn = strokes != IGNORE_INDEX
        np.testing.assert_array_equal(strokes[drawn], mask[drawn])
        np.testing.assert_array_equal(points.classes, mask[rows, cols])
        assert set(np.unique(mask)) == set(np.unique(strokes[drawn])) == set(points.classes)


def test_the_seed_decides_every_byte(written: Path, tmp_path: Path) -> None:
    write_generated_dataset(tmp_path / "same", num_train=4, num_val=2, size=SIZE, seed=3)
    write_generated_dataset(tmp_path / "other", num_train=4, num_val=2, size=SIZE, seed=4)
    assert digest(tmp_path / "same") == digest(written) != digest(tmp_path / "other")


def test_a_larger_set_begins_with_the_smaller_one(written: Path, tmp_path: Path) -> None:
    write_generated_dataset(tmp_path, num_train=1, num_val=1, size=SIZE, seed=3)
    names = [Path("images/train/train_0000.png"), Path("images/val/val_0000.png")]
    assert all((tmp_path / name).read_bytes() == (written / name).read_bytes() for name in names)


def test_training_and_validation_pictures_differ(written: Path) -> None:
    train = read_image(written / "images" / "train" / "train_0000.png")
    val = read_image(written / "images" / "val" / "val_0000.png")
    assert (train != val).any()


def test_an_unfinished_folder_has_no_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agmm.datasets.generated.write_label", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_generated_dataset(tmp_path, num_train=1, num_val=0, size=SIZE, seed=0)
    assert not (tmp_path / "classes.txt").exists()
