"""Every recipe is a config, is in the table, and trains a step on data of its kind."""

import csv
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agmm.commands.parsing import build_parser, parse, recipe_words
from agmm.commands.simulate import simulate
from agmm.commands.train import train
from agmm.config import STAGES, TrainConfig, as_plain, from_plain, read_yaml, recipe_path
from agmm.datasets.classes import Classes, voc_colors
from agmm.datasets.masks import write_index_mask
from agmm.datasets.voc import VOC_CLASSES
from agmm.shapes import IGNORE_INDEX, MaskArray

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
README = (FOLDER / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"`(agmm (?:train|simulate) [^`]+)`", README)

DINOV3 = "vit_base_patch16_dinov3.lvd1689m"
LIGHT = {"camvid": "scribbles", "voc_mini": "points"}
"""Recipes that take a step within seconds, and the form of label that they take it on."""

HEAVY = {
    "voc_r101": "points",
    "voc_r101_tel": "scribbles",
    "voc_mit_b4": "points",
    "voc_r101_spml": "boxes",
    "voc_r101_boxes": "boxes",
    "voc_vitb": "tags",
    "voc_clip_vitb": "tags",
    "voc_dinov2": "tags",
    "coco_r101": "boxes",
    "coco_vitb": "tags",
    "coco_clip_vitb": "tags",
    "coco_dinov2": "points",
    "cityscapes_r50": "points",
    "cityscapes_hrnet_w48": "blocks",
    "cityscapes_dinov2": "scribbles",
    "ade20k_hrnet_w48": "blocks",
    "ade20k_dinov2": "boxes",
}
"""The others."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_config(path: Path) -> None:
    values = read_yaml(path)

    result = from_plain({"data": "d", "out": "o", "labels": ["points"], **values})

    assert recipe_path(path.stem).samefile(path)
    stages = {name: {**as_plain(result)[name], **values[name]} for name in STAGES if name in values}
    assert {name: as_plain(result)[name] for name in values} == {**values, **stages}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_and_names_no_data(path: Path) -> None:
    assert path.read_text("utf-8").startswith("# ")
    own = {"data", "labels", "out", "format", "seeds", "method", "devices", "num_nodes", "resume"}
    assert own.isdisjoint(read_yaml(path))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_crops_of_vision_transformers_are_whole_pairs_of_patches(path: Path) -> None:
    """DPT halves the grid of patches, so that any other crop would be padded."""
    values = read_yaml(path)
    if values["decoder"] != "dpt":
        return
    patches = [14, 16] if "dinov2" in values["encoder"] else [16]  # DINOv3 by --encoder
    crops = [values["crop"], values.get("classifier", {}).get("crop", values["crop"])]
    assert [side % (2 * p) for crop in crops for side in crop for p in patches] == [
        0 for crop in crops for side in crop for p in patches
    ]


def test_every_recipe_takes_a_step_in_a_test() -> None:
    assert {path.stem for path in RECIPES} == {*LIGHT, *HEAVY}


def test_every_recipe_is_in_the_tables() -> None:
    for path in RECIPES:
        assert f"[{path.stem}]({path.name})" in README
    for name in {*HEAVY} - {"coco_r101"}:
        assert any(f"--recipe {name}" in command for command in COMMANDS), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_tables_can_be_parsed(command: str) -> None:
    _, name, *words = shlex.split(command)
    parser = build_parser(name, TrainConfig if name == "train" else simulate, "")
    if name == "train":
        place = words.index("--recipe")
        recipe = words[place + 1]
        words = [*recipe_words(recipe), *words[:place], *words[place + 2 :]]
    values = parse(parser, words)
    if name == "train":
        assert from_plain(values).labels
    else:
        assert values["form"]


def picture(number: int, size: tuple[int, int], values: tuple[int, int, int]) -> MaskArray:
    """A mask: the first value everywhere, the others in two rectangles; none touches another."""
    height, width = size
    mask = np.full(size, values[0], np.uint8)
    top = height // 8 + number
    mask[top : top + height // 2, width // 8 : width // 2 - 4] = values[1]
    mask[top : top + height // 2, width // 2 + 4 : width - width // 8] = values[2]
    return mask


def save_image(path: Path, mask: MaskArray) -> None:
    """A picture in which every class has a colour of its own, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 40, (*mask.shape, 3))
    colors = np.random.default_rng(1).integers(0, 200, (256, 3))
    Image.fromarray((colors[mask] + noise).astype(np.uint8)).save(path)


def save_mask(path: Path, mask: MaskArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def rectangle(mask: MaskArray, value: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a class, the latter two exclusive."""
    rows, columns = np.nonzero(mask == value)
    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    left, top, right, bottom = (int(side) for side in corners)
    return left, top, right, bottom


def write_voc(root: Path) -> None:
    """VOC 2012 with the clicks of What's the Point and the strokes of ScribbleSup.

    A picture has one object: its activation map is divided by its maximum, so that even a
    classifier that has learnt nothing gives a seed. Where it gives two classes equal maps, it
    gives none.
    """
    classes = Classes(VOC_CLASSES, voc_colors(len(VOC_CLASSES)))
    clicks = {}
    for number in range(2):
        name, k = f"2007_00000{number}", (8, 15)[number]
        mask = picture(number, (48, 64), (0, k, 0))
        save_image(root / f"JPEGImages/{name}.jpg", mask)
        write_index_mask(root / f"SegmentationClass/{name}.png", mask, classes)
        clicks[name] = [{"x": 2, "y": 2, "cls": 0, "rank": 0}]
        left, top, right, bottom = rectangle(mask, k)
        clicks[name].append({"x": left + 5, "y": top + 5, "cls": k, "rank": 0})
        objects = (
            f"<object><name>{VOC_CLASSES[k]}</name><bndbox><xmin>{left + 1}</xmin>"
            f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        )
        points = "".join(
            f"<point><X>{left + 4 + step}</X><Y>{top + 6}</Y></point>" for step in range(8)
        )
        strokes = f"<polygon><tag>{VOC_CLASSES[k]}</tag>{points}</polygon>"
        for folder, text in (("Annotations", objects), ("scribblesup", strokes)):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    (root / "clicks.json").write_text(json.dumps(clicks))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(clicks) + "\n")


def write_coco(root: Path) -> None:
    """COCO 2017, instances with polygons; one object per picture, as in `write_voc`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(2):
        category = (1, 17)[number]
        mask = picture(number, (48, 64), (0, category, 0))
        file = f"00000000000{number}.jpg"
        save_image(root / f"images/train2017/{file}", mask)
        images.append({"id": number, "file_name": file, "height": 48, "width": 64})
        left, top, right, bottom = rectangle(mask, category)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": category,
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
        )
    categories = [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))


def write_cityscapes(root: Path) -> None:
    """Cityscapes with the ids of its label files: 7 = road, 11 = building, 26 = car."""
    for number in range(2):
        mask = picture(number, (48, 96), (7, 11, 26))
        name = f"ulm/ulm_00000{number}_000019"
        save_image(root / f"leftImg8bit/train/{name}_leftImg8bit.png", mask)
        save_mask(root / f"gtFine/train/{name}_gtFine_labelIds.png", mask)


def write_ade20k(root: Path) -> None:
    """ADE20K SceneParsing: 0 = other, class k is k + 1."""
    for number in range(2):
        mask = picture(number, (48, 64), (1, 3, 150))
        save_image(root / f"images/training/ADE_train_0000000{number}.jpg", mask)
        save_mask(root / f"annotations/training/ADE_train_0000000{number}.png", mask)
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n")


LAYOUTS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "voc": (write_voc, {"points", "scribbles", "boxes", "tags"}),
    "coco": (write_coco, {"boxes", "tags"}),
    "cityscapes": (write_cityscapes, set()),
    "ade20k": (write_ade20k, set()),
}
"""Name of a format to what writes it, and the forms of label that are in it; others are drawn."""


def data_of(recipe: str, form: str, folder: Path) -> Path:
    """Data in the layout that a recipe is for, with labels of a form."""
    name = recipe.partition("_")[0]
    write, forms = LAYOUTS[name]
    (folder / name).mkdir()
    write(folder / name)
    if form in forms:
        return folder / name
    blocks = {"block_share": 0.5, "block_size": 8}  # some in every crop of the test
    simulate(folder / name, out=folder / form, form=(form,), format=name, workers=1, **blocks)  # type: ignore[arg-type]
    return folder / form


def take_a_step(recipe: str, form: str, data: Path, out: Path, **changes: Any) -> TrainConfig:
    """Train as the recipe says, but one step on two small crops; check the seeds and the loss."""
    values = read_yaml(recipe_path(recipe))
    small: dict[str, Any] = {"crop": (64, 64), "batch_size": 2}
    values |= {
        **small,
        "data": data,
        "out": out,
        "labels": (form,),
        "encoder_weights": "none",
        "max_steps": 1,
        "val_every": 1,
        "workers": 0,
        "overlays": 0,
        "accelerator": "cpu",
        "classifier": {**values.get("classifier", {}), **small, "epochs": 1},
        **changes,
    }
    run = train(from_plain(values))
    (log,) = (out / "logs" / "csv").rglob("metrics.csv")
    rows = csv.DictReader(log.read_text("utf-8").splitlines())
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert run.step == 1
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    assert losses[0] > 0
    made = [np.asarray(Image.open(file)) for file in (out / "seeds").rglob("*.png")]
    assert len(made) == (2 if form in {"tags", "boxes"} else 0)
    assert all((seeds != IGNORE_INDEX).any() for seeds in made)
    shutil.rmtree(out)  # up to 2 GB of checkpoints
    return run.config


@pytest.mark.parametrize("recipe", LIGHT)
def test_a_light_recipe_takes_a_step(recipe: str, tiny_data: Path, tmp_path: Path) -> None:
    form = LIGHT[recipe]
    data = tiny_data if recipe == "camvid" else data_of(recipe, form, tmp_path)
    config = take_a_step(recipe, form, data, tmp_path / "run")
    assert config.encoder == "mobilenetv2_100"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", HEAVY)
def test_a_heavy_recipe_takes_a_step(recipe: str, tmp_path: Path) -> None:
    form = HEAVY[recipe]
    config = take_a_step(recipe, form, data_of(recipe, form, tmp_path), tmp_path / "run")
    assert config.encoder == read_yaml(recipe_path(recipe))["encoder"]


@pytest.mark.slow
def test_a_recipe_of_dinov2_takes_a_step_with_dinov3(tmp_path: Path) -> None:
    data = data_of("voc_dinov2", "points", tmp_path)
    config = take_a_step("voc_dinov2", "points", data, tmp_path / "run", encoder=DINOV3)
    assert config.encoder == DINOV3
