"""Damaged exports of labelling tools: whatever is in them, the errors are ours."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agmm.datasets.reader import read_dataset
from agmm.errors import AgmmError

Draw = Callable[..., Path]
TOKENS = [
    *(b"0", b"-1", b"1e309", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"2147483648"),
    *(b"../", b"<a/>", b'"', b">", b"<", b"\x00", b"\xff", b"1.5", b";", b","),
]
VALUES = re.compile(rb'-?\d+(\.\d+)?|"[^"]*"|null|true')
CVAT = """<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>
<image name="a.png" width="4" height="3"><box label="cat" xtl="0" ytl="1" xbr="2" ybr="3"/>
<polygon label="cat" points="0,0;2,0;2,2" z_order="1"/><polyline label="cat" points="0,1;2,2"/>
<mask label="cat" rle="0,1,1,2" left="1" top="0" width="2" height="2"/><tag label="cat"/>
<points label="cat" points="1,1;2,2"/></image></annotations>"""
LABELME = """{"version": "5.5.0", "shapes": [
{"label": "cat", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 2]]},
{"label": "cat", "shape_type": "circle", "points": [[1, 1], [2, 1]]},
{"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [2, 1]]},
{"label": "cat", "shape_type": "line", "points": [[0, 0], [2, 1]]}],
"imagePath": "a.png", "imageData": null, "imageHeight": 3, "imageWidth": 4}"""
WEB = """<annotation><filename>a.png</filename><object><name>cat</name><id>0</id>
<polygon><pt><x>0</x><y>0</y></pt><pt><x>2</x><y>0</y></pt><pt><x>2</x><y>2</y></pt></polygon>
</object><imagesize><nrows>3</nrows><ncols>4</ncols></imagesize></annotation>"""
STUDIO = """[{"data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": [
{"type": "rectanglelabels", "original_width": 4, "original_height": 3, "value":
 {"x": 0, "y": 10, "width": 50, "height": 50, "rotation": 9, "rectanglelabels": ["cat"]}},
{"type": "polygonlabels", "original_width": 4, "original_height": 3, "value":
 {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["cat"]}},
{"type": "choices", "value": {"choices": ["cat"]}}]}]}]"""
STROKES = """<annotation><filename>a.png</filename><size><width>4</width><height>3</height></size>
<polygon><tag>cat</tag><point><X>0</X><Y>1</Y></point><point><X>2</X><Y>2</Y></point></polygon>
</annotation>"""

COCO = """{"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}],
"categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog", "color": [1, 2, 3]}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "iscrowd": 0,
"segmentation": [[0, 0, 2, 0, 2, 2]]}, {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1,
"bbox": [1, 0, 3, 3], "segmentation": {"size": [3, 4], "counts": [3, 6, 3]}},
{"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1],
"segmentation": {"size": [3, 4], "counts": "363"}}]}"""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut out, put in or replace something in one or two places."""
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.6 and (values := [m.span() for m in VALUES.finditer(data)]):
            start, end = rng.choice(values)
        else:
            start = rng.randrange(len(data))
            end = start + rng.choice((0, 1, 9))
        data = data[:start] + rng.choice((*TOKENS, b"")) + data[end:]
    return data


@pytest.mark.parametrize(
    ("format_", "file", "picture", "text"),
    [
        ("cvat", "annotations.xml", "images/a.png", CVAT),
        ("labelme", "a.json", "a.png", LABELME),
        ("labelme-web", "Annotations/a.xml", "Images/a.png", WEB),
        ("label-studio", "export.json", "images/a.png", STUDIO),
        ("coco", "annotations/instances_train.json", "images/a.png", COCO),
        ("scribblesup", "a.xml", "a.png", STROKES),
    ],
)
def test_damage_raises_nothing_but_our_errors(
    tmp_path: Path, draw: Draw, format_: str, file: str, picture: str, text: str
) -> None:
    draw(picture)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    dataset = read_dataset(tmp_path)  # recognised, and whole
    assert len([read() for read in dataset.split("train")[0].labels.values()]) > 0
    rng, refused = random.Random(0), 0
    for _ in range(150):
        path.write_bytes(damaged(text.encode(), rng))
        try:
            dataset = read_dataset(tmp_path, format=format_)
            for records in dataset.splits.values():
                [read() for record in records for read in record.labels.values()]
        except AgmmError:
            refused += 1
    assert refused > 15
