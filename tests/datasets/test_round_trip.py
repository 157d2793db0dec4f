"""The same labels in the files of several tools: the same seeds and candidates."""

from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agmm.datasets.classes import Classes
from agmm.datasets.masks import write_index_mask
from agmm.datasets.reader import read_dataset
from agmm.labels.annotations import Annotation, Blocks, Boxes, DenseMask, Points, Tags
from agmm.labels.forms import Form
from agmm.labels.protocol import Protocol, annotate
from agmm.labels.rasterize import rasterize
from agmm.shapes import MaskArray

NAMES = ("background", "cat", "dog", "sheep")
CLASSES = Classes(NAMES, ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 64, 0)))
Labels = Mapping[Form, Annotation]
Write = Callable[[Path, Labels], None]


def scene() -> MaskArray:
    """Two cats, one at the border, and a dog that touches one of them; a rim that is not known."""
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[2:9, 3:12], mask[15:24, 20:32], mask[9:16, 8:22] = 1, 1, 2
    mask[9, 8:22] = 255
    return mask


def write_voc(root: Path, labels: Labels) -> None:
    """Boxes in whole pixels from 1, both ends inclusive, and the palette PNG."""
    lines = []
    boxes, dense = labels.get("boxes"), labels.get("dense")
    if isinstance(boxes, Boxes):
        for (x1, y1, x2, y2), label in zip(boxes.xyxy.tolist(), boxes.classes, strict=True):
            lines.append(
                f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x1 + 1:.0f}</xmin>"
                f"<ymin>{y1 + 1:.0f}</ymin><xmax>{x2:.0f}</xmax><ymax>{y2:.0f}</ymax></bndbox>"
                "</object>"
            )
        (root / "Annotations").mkdir()
        (root / "Annotations/a.xml").write_text(
            "<annotation><filename>a.png</filename><size><width>32</width><height>24</height>"
            f"<depth>3</depth></size>{''.join(lines)}</annotation>"
        )
    if isinstance(dense, DenseMask):
        write_index_mask(root / "SegmentationClass/a.png", dense.mask, CLASSES)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"
        "sheep:128,64,0::\n"
    )
    (root / "JPEGImages").mkdir()
    Image.new("RGB", (32, 24)).save(root / "JPEGImages/a.png")


def cvat_mask(mask: MaskArray, label: int) -> str:
    """One class of a mask: lengths of runs that take turns, the first outside."""
    inside = (mask == label).ravel().tolist()
    runs = [len(list(same)) for _, same in groupby(inside)]
    rle = ", ".join(map(str, runs if not inside[0] else [0, *runs]))
    return (
        f'<mask label="{NAMES[label]}" rle="{rle}" left="0" top="0" width="32" height="24"'
        ' z_order="0"/>'
    )


def write_cvat(root: Path, labels: Labels) -> None:
    """XML for images: boxes, clicks in the middle of their pixels, tags and masks."""
    shapes = []
    for annotation in labels.values():
        if isinstance(annotation, Boxes):
            for corners, label in zip(annotation.xyxy.tolist(), annotation.classes, strict=True):
                sides = zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)
                words = " ".join(f'{side}="{value:.2f}"' for side, value in sides)
                shapes.append(f'<box label="{NAMES[label]}" {words}/>')
        elif isinstance(annotation, Points):
            for (x, y), label in zip(annotation.xy.tolist(), annotation.classes, strict=True):
                place = f"{int(x) + 0.5},{int(y) + 0.5}"
                shapes.append(f'<points label="{NAMES[label]}" points="{place}"/>')
        elif isinstance(annotation, Tags):
            shapes += [f'<tag label="{NAMES[label]}"/>' for label in annotation.classes]
        elif isinstance(annotation, Blocks):
            shapes += [cvat_mask(annotation.mask, label) for label in range(3)]
    names = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    (root / "images").mkdir()
    Image.new("RGB", (32, 24)).save(root / "images/a.png")
    (root / "annotations.xml").write_text(
        f"<annotations><meta><task><labels>{names}</labels></task></meta>"
        f'<image id="0" name="a.png" width="32" height="24">{"".join(shapes)}</image></annotations>'
    )


@pytest.mark.parametrize(
    ("write", "forms"),
    [
        (write_voc, ("boxes",)),
        (write_voc, ("dense",)),
        (write_cvat, ("boxes",)),
        (write_cvat, ("points",)),
        (write_cvat, ("tags",)),
        (write_cvat, ("blocks",)),
        (write_cvat, ("points", "blocks", "boxes", "tags")),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_the_same_seeds_and_candidates(
    tmp_path: Path, write: Write, forms: tuple[Form, ...], complete: bool
) -> None:
    protocol = Protocol(seed=2, block_size=8, block_share=0.5)
    labels = annotate(scene(), forms, protocol, key="train/a", background=0)
    write(tmp_path, labels)

    (record,) = read_dataset(tmp_path).split("train")

    found = [record.labels[form]() for form in forms]
    drawn = [
        rasterize(given, (24, 32), 4, complete=complete, background=0)
        for given in (found, [labels[form] for form in forms])
    ]
    np.testing.assert_array_equal(drawn[0].seeds, drawn[1].seeds)
    np.testing.assert_array_equal(drawn[0].candidates, drawn[1].candidates)
    # Tags alone name no pixel.
    assert (drawn[0].seeds != 255).any() or forms == ("tags",)
    says = {"boxes", "tags"} & set(forms) or (complete and "points" in forms)
    assert drawn[0].candidates.all() != bool(says)  # no sheep is there
