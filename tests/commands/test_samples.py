"""Every sample of a format that people bring: recognised, checked, and trained for a step."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.cli import main
from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.datasets.reader import find_format, read_dataset
from agmm.labels.forms import Form
from agmm.training.run import load_run

Make = Callable[..., TrainConfig]

# Folder, its format, the forms of label in its split train, and the fault that it really has.
SAMPLES: list[tuple[str, str, set[Form], str]] = [
    ("ade20k2017_dataset/dataset", "ade20k-full", {"dense"}, ""),
    ("ade20k2017_dataset/dataset_with_meta_file", "ade20k-full", {"dense"}, ""),
    ("ade20k2020_dataset/dataset", "ade20k-full", {"dense"}, ""),
    ("ade20k2020_dataset/dataset_with_meta_file", "ade20k-full", {"dense"}, ""),
    ("ade20k_sceneparsing", "ade20k", {"dense"}, ""),
    ("cityscapes_dataset/dataset", "cityscapes", {"dense"}, "all are 255"),
    ("cityscapes_dataset/train_dataset", "cityscapes", {"dense"}, "all are 255"),
    ("cityscapes_real", "cityscapes", {"dense"}, ""),
    ("coco_dataset/coco", "coco", {"dense", "tags"}, ""),
    ("coco_dataset/coco_captions", "coco", set(), "no JSON of COCO with labels"),
    ("coco_dataset/coco_image_info", "coco", set(), "classes: there are 0"),
    ("coco_dataset/coco_instances", "coco", {"boxes", "tags"}, ""),
    ("coco_dataset/coco_labels", "coco", {"tags"}, ""),
    ("coco_dataset/coco_panoptic", "coco", {"dense", "tags"}, "has 5x5 pixels"),
    ("coco_dataset/coco_person_keypoints", "coco", {"boxes", "tags"}, ""),
    ("coco_dataset/coco_roboflow", "coco", {"boxes", "tags"}, ""),
    ("coco_dataset/coco_stuff", "coco", {"dense", "tags"}, ""),
    ("coco_dataset/mmdet_coco", "coco", {"boxes", "tags"}, ""),
    ("coco_panoptic_real", "coco", {"boxes", "dense", "tags"}, ""),
    (
        "cvat_dataset/for_images/export_project",
        "cvat",
        {"points", "scribbles", "blocks", "boxes"},
        "is class 1 (label2) in points and class 0 (label1) in blocks",
    ),
    (
        "cvat_dataset/for_images/export_task",
        "cvat",
        {"points", "scribbles", "blocks", "boxes"},
        "<polyline> has no label",
    ),
    ("cvat_dataset/for_video", "cvat", {"points", "scribbles", "boxes"}, "has no label of"),
    ("label_studio", "label-studio", set(), "none of the 3 pictures is there"),
    ("labelme_dataset", "labelme-web", {"blocks", "boxes"}, ""),
    ("scribblesup", "scribblesup", set(), "no picture for any of its 1 files"),
    ("voc_dataset/voc_dataset1", "voc", {"boxes", "dense", "tags"}, "no box of this class covers"),
    ("voc_dataset/voc_dataset2", "voc", set(), "JPEGImages"),
    ("voc_dataset/voc_dataset3", "voc", {"boxes", "tags"}, ""),
]
NOT_TRAINED: dict[str, str] = {
    "cityscapes_dataset/dataset": "the mask of its one validation picture is void",
    "cityscapes_dataset/train_dataset": "the mask of its one validation picture is void",
    "cvat_dataset/for_images/export_task": "each of its two pictures has a shape without a label",
    "coco_dataset/coco_panoptic": "the mask of its one training picture has another size",
    "voc_dataset/voc_dataset1": "the labels of its one training picture contradict each other",
}
"""Faulty samples of which ``--skip-bad`` leaves nothing."""


@pytest.mark.parametrize(("folder", "format_", "forms", "fault"), SAMPLES)
def test_it_is_recognised_and_checked(
    shared: Path,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    format_: str,
    forms: set[Form],
    fault: str,
) -> None:
    path = shared / "data/formats" / folder

    assert main(["check", str(path)]) == (1 if fault else 0)

    printed = capsys.readouterr()
    assert fault in printed.out + printed.err
    assert find_format(path) == format_
    if forms:
        assert f"{path}: {format_}, " in printed.out
        records = read_dataset(path).split("train")
        assert {form for record in records for form in record.labels} == forms


@pytest.mark.slow
@pytest.mark.parametrize("form", ["points", "scribbles", "blocks", "boxes", "tags", "dense"])
@pytest.mark.parametrize(
    ("folder", "forms"),
    [(folder, forms) for folder, _, forms, _ in SAMPLES if forms and folder not in NOT_TRAINED],
)
def test_it_trains_for_a_step(
    shared: Path, tmp_path: Path, tiny_config: Make, folder: str, forms: set[Form], form: Form
) -> None:
    if form not in forms:
        pytest.skip(f"{folder} has no {form}")
    path = shared / "data/formats" / folder
    config = tiny_config(
        tmp_path / "run", data=path, labels=(form,), max_steps=1, skip_bad=True, clip_boxes=True
    )
    run = train(config)
    assert load_run(run.path, checkpoint="last").step == 1
