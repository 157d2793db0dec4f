"""Which pictures lie where, and which of them nobody names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.listing import list_unused
from agmm.datasets.reader import read_dataset
from tests.datasets.samples import lay, tiny_samples

Draw = Callable[..., Path]
SAMPLES = {sample.name: sample for sample in tiny_samples()}


def test_pictures_beside_used_ones_and_in_images_are_found(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG", ".c.png", "d.txt", "x/e.jpg", "images/y/f.tif", "points/g.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    a, b, f = (tmp_path / name for name in ("a.jpg", "b.PNG", "images/y/f.tif"))
    assert list_unused(tmp_path, [a]) == (b, f)
    assert list_unused(tmp_path, [a, b, f]) == ()
    assert list_unused(tmp_path, [tmp_path / "x/e.jpg"]) == (f,)
    (tmp_path / "images/y/link").symlink_to(tmp_path)  # leads above
    assert list_unused(tmp_path, [a]) == (b, f)


def test_a_picture_that_is_used_by_a_link_is_used(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").touch()
    (tmp_path / "JPEGImages").symlink_to("images")
    assert list_unused(tmp_path, [tmp_path / "JPEGImages/a.jpg"]) == ()


@pytest.mark.parametrize(
    ("sample", "picture"),
    [
        ("coco", "images/b.png"),
        ("coco", "images/test2017/b.png"),
        ("coco-panoptic", "train2017/b.png"),
        ("cvat", "images/b.png"),
        ("labelme", "b.jpg"),
        ("labelme-web", "Images/b.jpg"),
        ("label-studio", "images/c.jpg"),
        ("scribblesup", "b.jpg"),
    ],
)
def test_pictures_that_no_label_file_names_are_told(
    tmp_path: Path, draw: Draw, sample: str, picture: str
) -> None:
    lay(SAMPLES[sample], tmp_path)
    draw("points/z.png", [[255] * 4] * 3)
    assert read_dataset(tmp_path).unused == ()
    assert read_dataset(tmp_path).format == SAMPLES[sample].format.removesuffix("-panoptic")
    file = draw(picture)
    assert read_dataset(tmp_path).unused == (file,)
