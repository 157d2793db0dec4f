import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from agmm.commands.common import tracked, usable_dataset
from agmm.commands.runs import pick_device, same_classes
from agmm.datasets.reader import read_dataset
from agmm.errors import ConfigError, DataError
from agmm.training.run import load_run


@pytest.fixture
def console() -> Console:
    """Keeps what is printed, as on a pipe."""
    return Console(record=True, force_terminal=False, width=80, quiet=False)


@pytest.fixture
def broken_data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data set with one training picture cut short."""
    root = shutil.copytree(tiny_data, tmp_path / "[data]")
    picture = root / "images/train/b.png"
    picture.write_bytes(picture.read_bytes()[:60])
    return root


def test_pick_device() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["toaster", "", "cuda:99"])
def test_an_unusable_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device: cannot use '{name}' here .*auto or cpu"):
        pick_device(name)


def test_same_classes(tiny_run: Path) -> None:
    run = load_run(tiny_run)

    same_classes(run, ("sky", "wall", "road"), "data")

    for names in (("sky", "wall"), ("wall", "sky", "road"), ("sky", "wall", "street")):
        with pytest.raises(ConfigError, match=r"data: has the classes .*sky, wall, road"):
            same_classes(run, names, "data")


def test_a_good_data_set_is_opened_without_a_word(tiny_data: Path, console: Console) -> None:
    required = {"train": ("scribbles",), "val": ("dense",)}

    dataset = usable_dataset(read_dataset(tiny_data), required, skip_bad=False, console=console)  # type: ignore[arg-type]

    assert [record.name for record in dataset.split("train")] == ["a", "b", "c", "d"]
    assert console.export_text() == ""


def test_a_bad_file_stops(broken_data: Path, console: Console) -> None:
    with pytest.raises(DataError, match=r"images/train/b\.png"):
        usable_dataset(
            read_dataset(broken_data), {"train": ("points",)}, skip_bad=False, console=console
        )


def test_a_bad_file_is_skipped_and_listed_where_that_is_wished(
    broken_data: Path, console: Console
) -> None:
    dataset = usable_dataset(
        read_dataset(broken_data), {"train": ("points",)}, skip_bad=True, console=console
    )

    assert [record.name for record in dataset.split("train")] == ["a", "c", "d"]
    text = console.export_text()
    assert f"skipped {broken_data}/images/train/b.png: " in text
    assert "1 skipped in all" in text


def test_pictures_with_an_empty_label_are_told(
    tiny_data: Path, tmp_path: Path, console: Console
) -> None:
    root = shutil.copytree(tiny_data, tmp_path / "data")
    from PIL import Image

    Image.new("L", (64, 48), 255).save(root / "points/c.png")

    usable_dataset(read_dataset(root), {"train": ("points",)}, skip_bad=False, console=console)

    assert "train: 1 picture has an empty label, e.g. c" in console.export_text()


def test_pictures_that_no_label_file_names_are_told(
    tiny_data: Path, tmp_path: Path, console: Console
) -> None:
    file = tmp_path / "x.png"
    dataset = replace(read_dataset(tiny_data), unused=(file,), unused_as="in no file of labels")

    usable_dataset(dataset, {"train": ("points",)}, skip_bad=False, console=console)

    told = f"1 picture is in no file of labels and not used, e.g. {tmp_path}/x.png"
    assert told in console.export_text()


def test_pictures_that_no_list_names_are_told(
    tiny_data: Path, tmp_path: Path, console: Console
) -> None:
    files = tuple(tmp_path / f"{n}.jpg" for n in range(14_212))
    dataset = replace(read_dataset(tiny_data), unused=files, unused_as="in no list")

    usable_dataset(dataset, {"train": ("points",)}, skip_bad=False, console=console)

    told = f"14,212 pictures are in no list and not used, e.g. {tmp_path}/0.jpg"
    assert told in console.export_text().splitlines()


def test_tracked_gives_every_item_and_is_silent_on_a_pipe(console: Console) -> None:
    assert list(tracked([3, 1, 2], "counting", console)) == [3, 1, 2]
    assert console.export_text() == ""
