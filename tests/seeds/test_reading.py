"""Seeds of a run or of another tool; nothing wrong comes through."""

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agmm.config import CamConfig
from agmm.datasets.classes import Classes
from agmm.datasets.masks import write_index_mask
from agmm.errors import DataError
from agmm.seeds.reading import find_seeds, read_maps, read_seeds

CLASSES = Classes(("background", "cat", "dog"), ((0, 0, 0), (10, 20, 30), (200, 100, 0)))
NO_BACKGROUND = Classes(("fish", "cat", "dog"), CLASSES.colors)
CAM = CamConfig(foreground=0.5, background=0.1, margin=0.0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of 4x6 pixels."""
    Image.new("RGB", (6, 4)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def halves(left: float, right: float, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    columns = np.repeat([left, right], size[1] // 2)
    return np.tile(columns, (size[0], 1))


def test_one_file_of_each_folder_is_found(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for path in (mine / "day/a.png", theirs / "day/a.npy", theirs / "c.npz"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert find_seeds([mine], "day/a") == (mine / "day/a.png",)
    assert find_seeds([mine, theirs], "day/a") == (mine / "day/a.png", theirs / "day/a.npy")
    assert find_seeds([mine, theirs], "c") == (theirs / "c.npz",)

    with pytest.raises(
        DataError, match=r"mine, .*theirs: .*'b'; looked for b\.png, b\.npy, b\.npz"
    ):
        find_seeds([mine, theirs], "b")
    (mine / "day/a.npz").touch()
    with pytest.raises(DataError, match=r"day/a\.png and .*day/a\.npz: two files of seeds"):
        find_seeds([theirs, mine], "day/a")


def test_an_index_png_is_read_as_it_is(tmp_path: Path, image: Path) -> None:
    mask = np.random.default_rng(0).choice([0, 1, 2, 255], (4, 6)).astype(np.uint8)
    write_index_mask(tmp_path / "seeds.png", mask, CLASSES)
    reader = partial(read_seeds, tmp_path / "seeds.png", image, CLASSES, CAM)

    np.testing.assert_array_equal(reader(), mask)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))(), mask)


def test_an_index_png_of_another_size_is_refused(tmp_path: Path, image: Path) -> None:
    write_index_mask(tmp_path / "seeds.png", np.zeros((6, 4), np.uint8), CLASSES)

    with pytest.raises(DataError, match=r"seeds\.png: has 4x6 pixels .* has 6x4"):
        read_seeds(tmp_path / "seeds.png", image, CLASSES, CAM)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_maps_of_all_classes(tmp_path: Path, image: Path, dtype: type[np.floating]) -> None:
    # The background's own map says the contrary of what the others do: it is not used.
    maps = np.stack([halves(1, 1), halves(0.9, 0.0), halves(0.2, 0.05)]).astype(dtype)
    np.save(tmp_path / "seeds.npy", maps)

    seeds = read_seeds(tmp_path / "seeds.npy", image, CLASSES, CAM)

    assert seeds.tolist() == [[1, 1, 1, 0, 0, 0]] * 4


def test_without_a_background_class_low_is_unlabelled(tmp_path: Path, image: Path) -> None:
    np.save(tmp_path / "seeds.npy", np.stack([halves(0, 0.7), halves(0, 0.1), halves(0, 0)]))

    seeds = read_seeds(tmp_path / "seeds.npy", image, NO_BACKGROUND, CAM)

    assert seeds.tolist() == [[255, 255, 255, 0, 0, 0]] * 4


def test_maps_that_are_nowhere_above_0_are_of_classes_that_are_not_there_or_not_found(
    tmp_path: Path, image: Path
) -> None:
    """An npy has a map for every class; an npz names those that are in the picture."""
    nothing = np.zeros((3, 4, 6), np.float32)
    np.save(tmp_path / "seeds.npy", nothing)
    np.savez(tmp_path / "seeds.npz", maps=nothing[:1], classes=np.array([2]))

    assert (read_seeds(tmp_path / "seeds.npy", image, CLASSES, CAM) == 0).all()
    assert (read_seeds(tmp_path / "seeds.npz", image, CLASSES, CAM) == 255).all()


def test_maps_of_some_classes_at_another_resolution(tmp_path: Path, image: Path) -> None:
    maps = np.stack([halves(0, 1, (40, 60)), halves(1, 0, (40, 60))]).astype(np.float16)
    np.savez(tmp_path / "seeds.npz", maps=maps, classes=np.array([2, 1], np.uint8))
    one_cell = np.array([[[0.8]]])
    np.savez(tmp_path / "one.npz", maps=one_cell, classes=np.array([2]))

    large = read_seeds(tmp_path / "seeds.npz", image, CLASSES, CAM)
    small = read_seeds(tmp_path / "one.npz", image, CLASSES, CAM)

    assert large[:, [0, 1, 4, 5]].tolist() == [[1, 1, 2, 2]] * 4
    assert (small == 2).all()


def test_maps_at_the_size_of_the_picture_without_the_background(tmp_path: Path) -> None:
    maps = np.stack([halves(1, 1), halves(0.25, 0.75), halves(0.5, 0)]).astype(np.float16)
    np.savez(tmp_path / "seeds.npz", maps=maps, classes=np.array([0, 2, 1]))

    found, named = read_maps(tmp_path / "seeds.npz", (8, 12), CLASSES)

    assert named == [2, 1]
    assert found.shape == (2, 8, 12)
    assert found[:, 0, [0, 11]].tolist() == [[0.25, 0.75], [0.5, 0.0]]


def test_no_map_means_background_only(tmp_path: Path, image: Path) -> None:
    np.savez(tmp_path / "no.npz", maps=np.zeros((0, 4, 6)), classes=np.zeros(0, np.uint8))

    assert (read_seeds(tmp_path / "no.npz", image, CLASSES, CAM) == 0).all()


GOOD = np.zeros((3, 4, 6))


def with_value(value: float) -> np.ndarray:
    maps = GOOD.copy()
    maps[1, 2, 3] = value
    return maps


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_value(np.nan), r"must be from 0 to 1, but the value at \(1, 2, 3\) is nan"),
        (with_value(np.inf), r"the value at \(1, 2, 3\) is inf"),
        (with_value(1.5), r"the value at \(1, 2, 3\) is 1.5 \(1 such values\)"),
        (with_value(-0.1), r"the value at \(1, 2, 3\) is -0.1"),
        (GOOD[0], r"maps of floats of shape \(n, h, w\), got float64 of shape \(4, 6\)"),
        (GOOD[:, :0], r"got float64 of shape \(3, 0, 6\)"),
        (GOOD.astype(np.uint8), "got uint8"),
        (GOOD[:2], r"has 2 maps for .* one map for each of the 3 classes"),
        (np.array([{"a": 1}], dtype=object), "cannot be read as arrays of numbers"),
        ({"maps": GOOD}, "must hold the arrays 'maps' and 'classes'"),
        ({"maps": GOOD, "classes": np.array([0, 1])}, "has 3 maps for"),
        ({"maps": GOOD, "classes": np.array([0.0, 1.0, 2.0])}, "has 3 maps for float64 classes"),
        ({"maps": GOOD, "classes": np.array([0, 1, 3])}, "map of class 3, but there are 3 classes"),
        ({"maps": GOOD, "classes": np.array([0, 1, -1])}, "map of class -1"),
        ({"maps": GOOD, "classes": np.array([0, 1, 1])}, "2 maps of class 1"),
        ({"maps": GOOD, "classes": np.array([{}], dtype=object)}, "cannot be read as arrays"),
    ],
)
def test_maps_that_cannot_be_are_refused(
    tmp_path: Path, image: Path, content: Any, message: str
) -> None:
    if isinstance(content, dict):
        path = tmp_path / "seeds.npz"
        np.savez(path, **content)
    else:
        path = tmp_path / "seeds.npy"
        np.save(path, content)

    with pytest.raises(DataError, match=message) as caught:
        read_seeds(path, image, CLASSES, CAM)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("kept", [0, 4, 60, 200, None])
def test_damaged_files_are_refused(
    tmp_path: Path, image: Path, suffix: str, kept: int | None
) -> None:
    path = tmp_path / f"seeds{suffix}"
    np.save(path, GOOD) if suffix == ".npy" else np.savez(path, maps=GOOD, classes=np.arange(3))
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(DataError, match=r"there is no such file|cannot be read as arrays"):
        read_seeds(path, image, CLASSES, CAM)


def test_a_header_that_claims_a_huge_array_is_refused(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "seeds.npy"
    np.save(path, np.zeros((3, 4, 6)))
    path.write_bytes(path.read_bytes().replace(b"(3, 4, 6), }   ", b"(3, 40000, 60000)}", 1))

    with pytest.raises(DataError, match="cannot be read as arrays"):
        read_seeds(path, image, CLASSES, CAM)


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<f4', 'shape': (((",
        b"(" * 500,
        b"'",
        b"{[]: 1}",
        b"{'descr': ',f4', 'fortran_order': False, 'shape': (3, 4, 6)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1" + b"0" * 30 + b", 4, 6)}",
    ],
)
def test_a_header_that_is_broken_is_refused(tmp_path: Path, image: Path, text: bytes) -> None:
    (tmp_path / "seeds.npy").write_bytes(header(text) + bytes(100))

    with pytest.raises(DataError, match=r"seeds\.npy: cannot be read as arrays"):
        read_seeds(tmp_path / "seeds.npy", image, CLASSES, CAM)


@pytest.mark.parametrize("name", ["maps", "classes"])
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, image: Path, name: str) -> None:
    path = tmp_path / "seeds.npz"
    np.savez(path, maps=GOOD, classes=np.arange(3))
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    members[f"{name}.npy"] = b"hello"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)

    with pytest.raises(DataError, match=r"seeds\.npz: cannot be read as arrays.*is no array"):
        read_seeds(path, image, CLASSES, CAM)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(6, 1, "is encrypted"), (8, 99, "compression method is not supported")],
)
def test_an_archive_that_cannot_be_unpacked_is_refused(
    tmp_path: Path, image: Path, offset: int, value: int, message: str
) -> None:
    path = tmp_path / "seeds.npz"
    np.savez(path, maps=GOOD, classes=np.arange(3))
    content = bytearray(path.read_bytes())
    # The flags and the method of the first member, before it and in the directory at the end.
    content[content.find(b"PK\x03\x04") + offset] = value
    content[content.find(b"PK\x01\x02") + offset + 2] = value
    path.write_bytes(content)

    with pytest.raises(DataError, match=rf"seeds\.npz: cannot be read as arrays.*{message}"):
        read_seeds(path, image, CLASSES, CAM)
