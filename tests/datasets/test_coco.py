"""The layouts of COCO."""

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from agmm.datasets.check import check, checked
from agmm.datasets.coco_runs import decode_runs
from agmm.datasets.reader import read_dataset
from agmm.datasets.records import Record
from agmm.errors import AgmmError, DataError
from agmm.labels.annotations import Annotation, Boxes, DenseMask, Tags
from agmm.labels.rasterize import rasterize

Draw = Callable[..., Path]
LETTERS = {0: "0", 1: "1", 2: "2", 3: "3", 255: "."}
BASE: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.png", "width": 6, "height": 4}],
    "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 90,
            "bbox": [1, 0, 2, 3],
            "segmentation": [[1, 0, 3, 0, 3, 3, 1, 3]],
            "iscrowd": 0,
        }
    ],
}


def letters(mask: np.ndarray) -> list[str]:
    return ["".join(LETTERS[value] for value in row) for row in mask.tolist()]


def write(root: Path, content: object, name: str = "instances_train") -> Path:
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def said(record: Record) -> dict[str, Any]:
    """Everything that a record's labels say, as plain values."""
    result: dict[str, Any] = {}
    for form, read in record.labels.items():
        found = read()
        if isinstance(found, Boxes):
            result[form] = [*zip(found.classes.tolist(), found.xyxy.tolist(), strict=True)]
        elif isinstance(found, Tags):
            result[form] = found.classes.tolist()
        elif isinstance(found, DenseMask):
            result[form] = letters(found.mask)
    return result


@pytest.fixture
def coco(tmp_path: Path, draw: Draw) -> Path:
    draw("images/train/a.png", size=(4, 6))
    write(tmp_path, BASE)
    return tmp_path


INSTANCES = {
    "train": {"boxes": [(2, [2, 2, 5, 3])], "tags": [2]},  # no segmentation: no mask
    "val": {
        "boxes": [(1, [0, 0, 1, 2]), (2, [0, 0, 1, 9])],
        "tags": [1, 2],
        # a polygon of 1x2 on a crowd of two columns
        "dense": ["1.000", "1.000", *["..000"] * 8],
    },
}
PANOPTIC = {
    "train": {"tags": [0], "dense": ["..00.00..."] * 5},
    "val": {"tags": [0, 1], "dense": ["00..."] * 10},  # the second segment is a crowd
}
STUFF = {
    # Runs down the columns of 5: two not, two in, one not, two in, three not.
    "train": {"tags": [0], "dense": ["..00.00..."] * 5},
    "val": {"tags": [1], "dense": ["11..."] * 10},
}
LABELS = {"train": {"tags": [2]}, "val": {"tags": [1, 2]}}


@pytest.mark.parametrize(
    ("folder", "format_", "names", "expected"),
    [
        ("coco", "auto", "ab", PANOPTIC),
        ("coco", "coco-panoptic", "ab", PANOPTIC),
        ("coco", "coco-stuff", "ab", STUFF),
        ("coco", "coco-instances", "_abc", INSTANCES),
        ("coco", "coco-keypoints", "_ab", INSTANCES),
        ("coco", "coco-labels", "_ab", LABELS),
        ("coco_instances", "auto", "_abc", INSTANCES),
        ("coco_labels", "auto", "_ab", LABELS),
        ("coco_person_keypoints", "auto", "_ab", INSTANCES),
        ("coco_stuff", "auto", "ab", STUFF),
        ("mmdet_coco", "auto", "_abc", INSTANCES),
        ("coco_roboflow", "auto", "_abc", INSTANCES),
    ],
)
def test_the_samples_are_read(
    shared: Path, folder: str, format_: str, names: str, expected: dict[str, Any]
) -> None:
    root = shared / "data" / "formats" / "coco_dataset" / folder
    dataset = pickle.loads(pickle.dumps(read_dataset(root, format=format_)))
    assert dataset.classes.names == tuple("background" if n == "_" else n for n in names)
    assert dataset.unmatched == ()
    found = {
        split: [record.name for record in records] for split, records in dataset.splits.items()
    }
    assert found == {"train": ["a"], "val": ["b"]}
    assert {split: said(records[0]) for split, records in dataset.splits.items()} == expected


def test_samples_without_classes_or_with_a_wrong_mask(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "formats" / "coco_dataset"
    with pytest.raises(DataError, match=r"no JSON of COCO with labels; found: captions_train.json"):
        read_dataset(root / "coco_captions")
    with pytest.raises(DataError, match=r"there are 0, .* can also be listed in .*classes.txt"):
        read_dataset(root / "coco_image_info")
    shutil.copytree(root / "coco_image_info", tmp_path / "info", copy_function=shutil.copyfile)
    (tmp_path / "info").chmod(0o755)
    (tmp_path / "info" / "classes.txt").write_text("road\nsky\n")
    dataset = read_dataset(tmp_path / "info")
    assert [said(dataset.split(split)[0]) for split in ("train", "val")] == [{}, {}]
    panoptic = read_dataset(root / "coco_panoptic")
    assert said(panoptic.split("val")[0]) == PANOPTIC["val"]
    with pytest.raises(DataError, match=r"panoptic_train.a.png: has 5x5 pixels .*a.jpg has 10x5"):
        panoptic.split("train")[0].labels["dense"]()


def test_real_panoptic_pictures_agree_with_their_areas_and_their_runs(shared: Path) -> None:
    root = shared / "data" / "formats" / "coco_panoptic_real"
    dataset, runs = read_dataset(root), read_dataset(root, format="coco-instances")
    assert (len(dataset.classes), dataset.classes.colors[0]) == (133, (220, 20, 60))
    assert dataset.classes.colors_given
    assert runs.classes.names == ("background", *dataset.classes.names)
    content = json.loads((root / "panoptic_examples.json").read_text())
    name_of = {c["id"]: c["name"] for c in content["categories"]}
    assert len(dataset.split("train")) == len(content["annotations"]) == 2
    for record, other in zip(dataset.split("train"), runs.split("train"), strict=True):
        dense, painted = record.labels["dense"](), other.labels["dense"]()
        assert isinstance(dense, DenseMask)
        assert isinstance(painted, DenseMask)
        [segments] = [
            a["segments_info"] for a in content["annotations"] if record.name in a["file_name"]
        ]
        areas = dict.fromkeys(range(133), 0)
        for segment in segments:
            k = dataset.classes.names.index(name_of[segment["category_id"]])
            areas[k] += segment["area"] * (1 - segment["iscrowd"])
        assert {k: int((dense.mask == k).sum()) for k in range(133)} == areas
        both = dense.mask != 255
        assert np.array_equal(painted.mask[both], dense.mask[both] + 1)
        assert set(np.unique(painted.mask[~both])) == {0, 255}  # nothing there, and crowds
    assert check(dataset, {"train": ("tags", "boxes", "dense")}).faults == {"train": ()}
    assert check(runs, {"train": ("tags", "boxes", "dense")}).faults == {"train": ()}


def test_what_was_written_is_read_back(tmp_path: Path, draw: Draw) -> None:
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": i, "name": n} for i, n in ((1, "cat"), (44, "dog"))]
    known = {}
    for number in range(6):
        mask = np.zeros((9, 13), np.uint8)
        boxes = []
        for code in range(1, 1 + number % 3):
            y, x = rng.integers(0, 4), rng.integers(0, 4) + 6 * (code - 1)
            mask[y : y + 5, x : x + 3][rng.random((5, 3)) < 0.8] = code
            rows, columns = np.nonzero(mask == code)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes.append((code, [int(v) for v in box]))
            runs = pycoco.encode(np.asfortranarray(mask == code))
            if number % 2:
                segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
            else:
                flat = (mask == code).T.ravel()
                edges = np.flatnonzero(np.diff(flat, prepend=False))
                counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
                segmentation = {"size": [9, 13], "counts": counts}
            x0, y0, x1, y1 = boxes[-1][1]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number,
                    "category_id": (1, 44)[code - 1],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": segmentation,
                }
            )
        draw(f"train2017/{number:012}.jpg", size=(9, 13))
        content["images"].append({"id": number, "file_name": f"{number:012}.jpg"})
        xyxy = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
        codes = np.array([code for code, _ in boxes], np.uint8)
        known[f"{number:012}"] = (DenseMask(mask), Boxes(xyxy, codes), Tags(codes))
    write(tmp_path, content, "instances_train2017")
    records = read_dataset(tmp_path).split("train")
    assert [record.name for record in records] == sorted(known)
    for record in records:
        dense, boxes_, tags = known[record.name]
        cases: list[list[Annotation]] = [[dense], [boxes_], [tags], [dense, boxes_, tags]]
        for given in cases:
            found = [record.labels[annotation.form]() for annotation in given]
            read = rasterize(found, (9, 13), 3, complete=False, background=0)
            expected = rasterize(given, (9, 13), 3, complete=False, background=0)
            assert np.array_equal(read.seeds, expected.seeds)
            assert np.array_equal(read.candidates, expected.candidates)


def test_runs_are_decoded_as_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        mask = rng.random(size) < rng.choice([0, 0.02, 0.5, 0.98, 1])
        compressed = pycoco.encode(np.asfortranarray(mask))["counts"].decode()
        assert np.array_equal(decode_runs(compressed, size), mask)
    large = np.zeros((1000, 1000), bool)
    large[500:, 300:] = True  # numbers of several characters, and negative differences
    assert np.array_equal(
        decode_runs(pycoco.encode(np.asfortranarray(large))["counts"].decode(), large.shape), large
    )


def test_damaged_runs_are_refused_or_fill_the_mask() -> None:
    rng = np.random.default_rng(0)
    text = pycoco.encode(np.asfortranarray(rng.random((9, 11)) < 0.5))["counts"].decode()
    refused = 0
    for _ in range(500):
        at = int(rng.integers(len(text)))
        changed = text[:at] + chr(int(rng.integers(32, 400))) + text[at + rng.integers(3) :]
        try:
            assert decode_runs(changed, (9, 11)).shape == (9, 11)
        except DataError:
            refused += 1
    assert refused > 250


def test_small_things_lie_on_large_ones(coco: Path) -> None:
    content = copy.deepcopy(BASE)
    del content["images"][0]["width"]  # it need not be said
    content["categories"].append({"id": 0, "name": "table"})
    box = content["annotations"][0]
    whole = {"category_id": 0, "segmentation": [[0, 0, 6, 0, 6, 3, 0, 3]], "bbox": [0, 0, 6, 3]}
    crowd = {"category_id": 3, "segmentation": {"size": [4, 6], "counts": [12, 12]}, "iscrowd": 1}
    two = [[4, 0, 5, 0, 5, 1, 4, 1], [5, 1, 6, 1, 6, 2, 5, 2]]
    content["annotations"] = [
        {**box, "id": 1},
        {**box, **whole, "id": 2},
        {**box, **crowd, "id": 3},
        {**box, "id": 4, "category_id": 3, "segmentation": two},
        {**box, "id": 5, "segmentation": [], "bbox": [0.5, 2.5, 1, 1]},
    ]
    write(coco, content)
    dataset = read_dataset(coco)
    assert dataset.classes.names == ("background", "table", "cat", "dog")
    dense = said(dataset.split("train")[0])["dense"]
    assert dense == ["133121", "133112", "133111", "..0..."]


def test_a_picture_without_annotations_is_background(coco: Path, draw: Draw) -> None:
    draw("images/train/b.png", size=(1, 2))
    content = copy.deepcopy(BASE)
    content["images"].append({"id": 8, "file_name": "b.png"})
    write(coco, content)
    records = read_dataset(coco).split("train")
    assert said(records[1]) == {"tags": [], "boxes": [], "dense": ["00"]}
    write(coco, content, "stuff_train")
    records = read_dataset(coco, format="coco-stuff").split("train")
    assert said(records[0])["dense"] == [".11...", ".11...", ".11...", "......"]
    assert said(records[1]) == {}
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    write(coco, content)
    records = read_dataset(coco, format="coco-instances").split("train")
    assert [sorted(record.labels) for record in records] == [["boxes", "tags"]] * 2


@pytest.mark.parametrize("kind", ["stuff", "instances"])
def test_two_pictures_of_one_name_are_refused(coco: Path, draw: Draw, kind: str) -> None:
    """Those of stuff without annotations have no labels that could be there twice."""
    draw("images/train/a.jpg", size=(4, 6))
    content = copy.deepcopy(BASE)
    content["images"].append({"id": 8, "file_name": "a.jpg"})
    write(coco, content, f"{kind}_train")
    with pytest.raises(DataError, match=r"a\.png and .*a\.jpg: two pictures of one name, 'a'"):
        read_dataset(coco, format=f"coco-{kind}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("images/train/a.png", "train/a.png"),
        ("images/a.png", "a.png"),
        ("a.png", "annotations/a.png"),
    ],
)
def test_one_picture_in_two_folders_is_refused(
    coco: Path, draw: Draw, first: str, second: str
) -> None:
    shutil.rmtree(coco / "images")
    for name in (first, second):
        draw(name, size=(4, 6))
    with pytest.raises(DataError, match=f"{first} and .*{second}: two files of one name"):
        read_dataset(coco)


def test_the_folder_of_the_split_says_which_picture_is_meant(coco: Path, draw: Draw) -> None:
    """One of another split may lie in images/ itself."""
    draw("images/a.png", size=(4, 6))
    write(coco, BASE, "instances_val")
    images = {s: records[0].image for s, records in read_dataset(coco).splits.items()}
    assert images == {"train": coco / "images/train/a.png", "val": coco / "images/a.png"}


def test_classes_txt_and_tags_csv_come_first(coco: Path) -> None:
    (coco / "classes.txt").write_text("dog\ncat\n")
    (coco / "tags.csv").write_text("image,tags\na.png,cat\n")
    dataset = read_dataset(coco)
    assert dataset.classes.names == ("dog", "cat")
    record = dataset.split("train")[0]
    assert said(record)["tags"] == [1]
    assert said(record)["dense"] == [".00...", ".00...", ".00...", "......"]  # no background
    (coco / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"a.png, dense 1: 'dog' is no class; the classes are cat"):
        read_dataset(coco).split("train")[0].labels["dense"]()


def test_the_kind_that_most_splits_have_is_read(coco: Path, draw: Draw) -> None:
    draw("images/val/b.png", size=(4, 6))
    other = copy.deepcopy(BASE)
    other["images"][0]["file_name"] = "b.png"
    write(coco, other, "instances_val2017")
    stuff = copy.deepcopy(other)
    stuff["categories"] = [{"id": 90, "name": "grass"}]
    write(coco, stuff, "stuff_val2017")
    write(coco, "damaged, and not read", "captions_val2017")
    assert read_dataset(coco).classes.names == ("background", "cat", "dog")
    dataset = read_dataset(coco, format="coco-stuff")
    assert dataset.classes.names == ("grass",)
    assert [*dataset.splits] == ["val"]
    draw("test2017/c.png")
    info = {"images": [{"id": 1, "file_name": "c.png"}], "categories": BASE["categories"]}
    write(coco, info, "image_info_test2017")
    dataset = read_dataset(coco)
    assert {split: len(records) for split, records in dataset.splits.items()} == {
        "test": 1,
        "train": 1,
        "val": 1,
    }
    (coco / "annotations" / "captions_val2017.json").unlink()
    with pytest.raises(DataError, match=r"no JSON of COCO with labels; found: .*stuff_val2017"):
        read_dataset(coco, format="coco-labels")


def test_missing_pictures_are_faults(coco: Path) -> None:
    content = copy.deepcopy(BASE)
    content["images"].append({"id": 8, "file_name": "gone.jpg"})
    content["annotations"].append({**BASE["annotations"][0], "id": 2, "image_id": 8})
    write(coco, content)
    dataset = read_dataset(coco)
    assert [record.name for record in dataset.split("train")] == ["a"]
    [fault] = check(dataset, {"train": ("dense",)}).faults["train"]
    assert "instances_train.json: there is no picture 'gone' for this label" in fault.reason
    (coco / "images" / "train" / "a.png").unlink()
    with pytest.raises(DataError, match=r"none of the 2 pictures is there, such as 'a' of"):
        read_dataset(coco)


def changed(*steps: object, to: object) -> dict[str, Any]:
    """Change one value of the tiny data set."""
    content = copy.deepcopy(BASE)
    at: Any = content
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = to
    return content


def first(key: str, to: object) -> dict[str, Any]:
    return changed("annotations", 0, key, to=to)


def runs(counts: object, size: object = (4, 6)) -> dict[str, Any]:
    return first("segmentation", {"counts": counts, "size": size})


def twice(key: str) -> dict[str, Any]:
    return changed(key, to=[BASE[key][0]] * 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', r"is not JSON"),
        (json.dumps(BASE) + "x", r"is not JSON \(more text after the object"),
        (json.dumps(BASE).replace("}]", "},]"), r"is not JSON \(a comma before ']'"),
        ('{"images": [], "images": []}', r"the key \"images\" is there twice"),
        ("[]", r"is not JSON \(expected '{' at character 0"),
        (first("bbox", [float("nan"), 0, 1, 1]), r"NaN, which is no number of JSON"),
        (json.dumps(BASE).replace("[1, 0, 2, 3]", "[1, 0, 1e999, 3]"), r"1: bbox must be x, y"),
        (first("bbox", [-1, 0, 2, 3]), r"reaches out of the picture of 6x4 pixels"),
        (first("bbox", [3, 0, -2, 3]), r"has its corners in the wrong order"),
        (first("bbox", [0, 0, 2]), r"boxes: 1: bbox must be x, y, width and height .*\[0, 0, 2\]"),
        (first("bbox", ["0", 0, 2, 3]), r"bbox must be"),
        (first("id", "1"), r"annotations 1: id must be a whole number, but is \"1\""),
        (first("id", True), r"annotations 1: id must be a whole number, but is true"),
        (first("image_id", None), r"annotations 1: image_id must be a whole number"),
        (first("image_id", 9), r"1 annotations have the image_id 9, which is none of the 1"),
        (first("category_id", 5), r"annotations 1: the category 5 is none of the 2"),
        (first("category_id", 1.5), r"category_id must be a whole number, but is 1.5"),
        (first("iscrowd", [1]), r"dense 1: iscrowd must be 0 or 1, but is \[1\]"),
        (twice("annotations"), r"annotations 2: the id 1 is there twice"),
        (twice("images"), r"images 2: the id 7 is there twice"),
        (twice("categories"), r"categories 2: the id 90 is there twice"),
        (changed("annotations", 0, to=3), r"annotations 1: must be an object"),
        (changed("categories", 0, "name", to=""), r"categories 1: name must be a name"),
        (changed("categories", 1, "name", to="dog"), r"the category 90 is 'dog', but 3 has"),
        (changed("categories", to=[]), r"the category 90 is none of the 0"),
        (changed("images", 0, "file_name", to="../../a.png"), r"leads out of the data folder"),
        (changed("images", 0, "file_name", to="/etc/a.png"), r"leads out of the data folder"),
        (changed("images", 0, "file_name", to=5), r"images 1: file_name must be a name"),
        (changed("images", 0, "width", to=-6), r"images 1: has -6x4 pixels"),
        (changed("images", 0, "width", to=7), r"says 7x4 pixels .* has 6x4"),
        (
            first("segmentation", [[0, 0, 1, 1]]),
            r"dense 1: a polygon must have x and y of at least",
        ),
        (first("segmentation", [[0, 0, 1, 1, 2, 2, 3]]), r"a polygon must have"),
        (first("segmentation", [[0, 0, 1, 1, 2, None]]), r"a polygon must have"),
        (first("segmentation", [0, 0, 1, 1, 2, 2]), r"a polygon must have"),
        (first("segmentation", "x"), r"must be polygons, or runs of the size \[4, 6\]"),
        (runs([24], [6, 4]), r"must be polygons, or runs of the size \[4, 6\]"),
        (runs([24], [10**9, 10**9]), r"runs of the size \[4, 6\]"),
        (runs([10**300, 1]), r"neither whole numbers up to 24"),
        (runs([-1, 25]), r"neither whole numbers up to 24"),
        (runs([12, 13]), r"must fill the 24 pixels of the picture, but their sum is 25"),
        (runs([]), r"must fill the 24 pixels"),
        (runs("0" * 10**4), r"neither whole numbers up to 24"),
        (runs("ooooooooo0"), r"the compressed runs are damaged"),
        (runs("é"), r"the compressed runs are damaged"),
        (runs(""), r"the compressed runs are damaged"),
        (runs("J"), r"must fill the 24 pixels"),
    ],
)
def test_what_is_wrong_is_told_once(coco: Path, content: object, message: str) -> None:
    path = write(coco, content)
    with pytest.raises(DataError, match=message) as caught:
        checked(read_dataset(coco), {"train": ("tags", "boxes", "dense")})
    assert path.name in str(caught.value) or "a.png" in str(caught.value)


def segments(**values: object) -> dict[str, Any]:
    """A panoptic file with one segment."""
    segment = {"id": 258, "category_id": 90, "bbox": [0, 0, 2, 3], "iscrowd": 0, **values}
    own = {"image_id": 7, "file_name": "a.png", "segments_info": [segment]}
    return changed("annotations", to=[own])


@pytest.mark.parametrize(
    ("file", "png", "picture"),
    [
        ("annotations/panoptic_train.json", "annotations/a.png", "images/a.png"),
        ("panoptic_train.json", "a.png", "images/a.png"),
        ("panoptic_train.json", "panoptic_train/a.png", "a.png"),
    ],
)
def test_pictures_and_panoptic_pngs_are_told_apart(
    tmp_path: Path, draw: Draw, file: str, png: str, picture: str
) -> None:
    """Either may lie beside the JSON file."""
    write(tmp_path, segments(), "panoptic_train").rename(tmp_path / file)
    draw(picture, size=(4, 6))
    draw(png, [[(2, 1, 0)] * 6] * 4)
    [record] = read_dataset(tmp_path).split("train")
    assert record.image == tmp_path / picture
    assert said(record)["dense"] == ["111111"] * 4


def test_two_panoptic_pngs_of_one_picture_are_refused(coco: Path, draw: Draw) -> None:
    write(coco, segments(), "panoptic_train")
    for folder in ("annotations/panoptic_train", "panoptic_train"):
        draw(f"{folder}/a.png", [[(2, 1, 0)] * 6] * 4)
    read = read_dataset(coco).split("train")[0].labels["dense"]
    with pytest.raises(DataError, match=r"panoptic_train/a\.png: two files of one name"):
        read()


def test_panoptic_ids_are_red_green_blue(coco: Path, draw: Draw) -> None:
    colors = np.zeros((4, 6, 3))
    colors[:3, :2, :2] = (2, 1)  # 2 + 256
    draw("annotations/panoptic_train/a.png", colors)
    write(coco, segments(), "panoptic_train")
    dataset = read_dataset(coco)
    assert dataset.classes.names == ("cat", "dog")
    assert said(dataset.split("train")[0]) == {
        "tags": [1],
        "boxes": [(1, [0, 0, 2, 3])],
        "dense": ["11....", "11....", "11....", "......"],
    }
    write(coco, segments(iscrowd=1), "panoptic_train")
    assert said(read_dataset(coco).split("train")[0])["dense"] == ["......"] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (segments(id=259), r"a.png: the segment 258 is on 6 pixels, but .* does not name it"),
        (segments(id=0), r"dense 1: the id of a segment must be in 1..16777215"),
        (segments(id=2**24), r"dense 1: the id of a segment must be in 1..16777215"),
        (segments(category_id=4), r"annotations 1: the category 4 is none of the 2"),
        (changed("annotations", to=segments()["annotations"] * 2), r"has 2 annotations"),
        (first("segments_info", 3), r"segments_info must be a list, but is 3"),
        (
            changed("annotations", to=[{"image_id": 7, "segments_info": []}]),
            r"file_name must be that of a PNG, but is null",
        ),
    ],
)
def test_damaged_panoptic_files(coco: Path, draw: Draw, content: object, message: str) -> None:
    colors = np.zeros((4, 6, 3))
    colors[:3, :2, :2] = (2, 1)
    draw("annotations/panoptic_train/a.png", colors)
    write(coco, content, "panoptic_train")
    with pytest.raises(DataError, match=message):
        checked(read_dataset(coco, format="coco-panoptic"), {"train": ("dense",)})


def test_damaged_panoptic_pngs(coco: Path, draw: Draw) -> None:
    write(coco, segments(), "panoptic_train")

    def read() -> object:
        return read_dataset(coco).split("train")[0].labels["dense"]()

    with pytest.raises(DataError, match=r"dense: there is no a.png in .*panoptic_train"):
        read()
    png = draw("annotations/panoptic_train/a.png", np.zeros((4, 6)))
    with pytest.raises(DataError, match=r"must be a PNG of colours, but this is PNG of the mode L"):
        read()
    Image.new("RGB", (6, 4)).save(png, format="JPEG")
    with pytest.raises(DataError, match=r"must be a PNG of colours, but this is JPEG"):
        read()
    png.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"cannot be read as a picture"):
        read()
    content = segments()
    content["annotations"][0]["file_name"] = "../../../a.png"
    write(coco, content, "panoptic_train")
    with pytest.raises(DataError, match=r"leads out of the data folder"):
        read()


def test_links_out_of_the_folder_are_refused(coco: Path, tmp_path_factory: Any) -> None:
    outside = tmp_path_factory.mktemp("outside")
    picture = coco / "images" / "train" / "a.png"
    shutil.move(picture, outside / "a.png")
    picture.symlink_to(outside / "a.png")
    with pytest.raises(AgmmError, match=r"is a link that leads out of the data folder"):
        read_dataset(coco)
