"""Valid small data sets of every format, made by hand, with every form of label."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CVAT = """<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>
<image name="a.png" width="40" height="30"><box label="cat" xtl="0" ytl="1" xbr="2" ybr="3"/>
<polygon label="cat" points="0,0;2,0;2,2" z_order="1"/><polyline label="cat" points="0,1;2,2"/>
<mask label="cat" rle="0,1,1,2" left="1" top="0" width="2" height="2"/><tag label="cat"/>
<points label="cat" points="1,1;2,2"/></image></annotations>"""
COCO = """{"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}],
"categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog", "color": [1, 2, 3]}],
"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "iscrowd": 0,
"segmentation": [[0, 0, 2, 0, 2, 2]]}, {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1,
"bbox": [1, 0, 3, 3], "segmentation": {"size": [3, 4], "counts": [3, 6, 3]}},
{"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1],
"segmentation": {"size": [3, 4], "counts": "363"}}]}"""
LABELME = """{"version": "5.5.0", "shapes": [
{"label": "cat", "shape_type": "polygon", "points": [[0, 0], [2, 0], [2, 2]]},
{"label": "cat", "shape_type": "circle", "points": [[1, 1], [2, 1]]},
{"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [2, 1]]},
{"label": "cat", "shape_type": "line", "points": [[0, 0], [2, 1]]}],
"imagePath": "a.png", "imageData": null, "imageHeight": 3, "imageWidth": 4}"""
PANOPTIC = """{"images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}],
"categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}],
"annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": [
{"id": 258, "category_id": 1, "bbox": [0, 0, 2, 3], "iscrowd": 0, "area": 6},
{"id": 2, "category_id": 7, "bbox": [2, 0, 2, 3], "iscrowd": 0, "area": 6}]}]}"""
ADE_TEXT = """001 # 0 # 0 # sky # blue sky # ""
002 # 0 # 1 # door, entry # door # "open, red"
001 # 1 # 0 # knob # knob # ""
"""
ADE_JSON = """{"annotation": {"object": [
{"name_ndx": 259, "name": "sky", "parts": {"part_level": 0}},
{"name_ndx": 516, "name": "door, entry", "parts": {"part_level": 0}},
{"name_ndx": 9, "name": "knob", "parts": {"part_level": 1}}]}}"""
META = """{"labels": ["background", "cat"], "label_map": {"0": "background", "1": "cat"},
"segmentation_colors": [[0, 0, 0], [9, 8, 7]], "background_label": "0"}"""
WEB = """<annotation><filename>a.png</filename><object><name>cat</name><id>0</id>
<polygon><pt><x>0</x><y>0</y></pt><pt><x>2</x><y>0</y></pt><pt><x>2</x><y>2</y></pt></polygon>
</object><imagesize><nrows>3</nrows><ncols>4</ncols></imagesize></annotation>"""
STUDIO = """[{"data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": [
{"type": "rectanglelabels", "original_width": 4, "original_height": 3, "value":
 {"x": 10, "y": 10, "width": 30, "height": 50, "rotation": 9, "rectanglelabels": ["cat"]}},
{"type": "polygonlabels", "original_width": 4, "original_height": 3, "value":
 {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["cat"]}},
{"type": "choices", "value": {"choices": ["cat"]}}]}]},
{"data": {"image": "b.png"}, "annotations": [{"result": [
{"type": "brushlabels", "original_width": 5, "original_height": 3, "value": {"format": "rle",
 "rle": [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 132, 192, 35, 255, 0], "brushlabels": ["cat"]}},
{"type": "ellipselabels", "original_width": 5, "original_height": 3, "value":
 {"x": 50, "y": 50, "radiusX": 20, "radiusY": 9, "rotation": 0, "ellipselabels": ["dog"]}},
{"type": "keypointlabels", "original_width": 5, "original_height": 3, "value":
 {"x": 1, "y": 99, "width": 0.3, "keypointlabels": ["cat"]}}]}]}]"""
STROKES = """<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>
<polygon><tag>cat</tag><point><X>0</X><Y>1</Y></point><point><X>2</X><Y>2</Y></point></polygon>
</annotation>"""
VOC = """<annotation><filename>a.jpg</filename><size><width>4</width><height>3</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>1</ymin><xmax>4</xmax>
<ymax>3</ymax></bndbox></object></annotation>"""


@dataclass(frozen=True)
class Sample:
    """A valid data set.

    Args:
        format: The name of its reader.
        files: Path in its folder to content.
        variant: Which one it is, where a format has several.
    """

    format: str
    files: Mapping[str, bytes]
    variant: str = ""

    @property
    def name(self) -> str:
        """What no other sample is called."""
        return f"{self.format} {self.variant}".rstrip()


def lay(sample: Sample, root: Path) -> None:
    """Write a data set."""
    for name, content in sample.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def picture(suffix: str = "png", values: object = None, mode: str | None = None) -> bytes:
    """Encode a picture, of 4x3 pixels where no values are given."""
    pixels = np.full((3, 4, 3), 90) if values is None else np.asarray(values)
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode is not None:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return buffer.getvalue()


def tiny_samples() -> list[Sample]:
    """Make a small data set of every format by hand, with every form of label."""
    dense, clicks = [[0, 0, 1, 1]] * 3, [[0, 255, 255, 1]] * 3
    classes = b"background\ncat\n"
    beside = {
        "points/e.png": picture(values=clicks, mode="P"),
        "scribbles/a.png": picture(values=clicks),
        "blocks/a.png": picture(values=clicks),
        "scribblesup/b.xml": STROKES.encode(),
        "boxes.csv": b"image,class,xmin,ymin,xmax,ymax\na.jpg,cat,2,0,4,3\nb,cat,0,0,40,30\n",
        "tags.csv": b"image,tags\na,cat\n",
        "clicks.json": b'{"a.jpg": [{"x": 3.5, "y": 1, "cls": 1, "rank": 0}], "c": []}',
    }
    large = picture(values=np.full((30, 40, 3), 90))
    kinds = {"a": "jpg", "c": "bmp", "d": "tif", "e": "webp"}
    folder = {
        **beside,
        **{f"images/{name}.{kind}": picture(kind) for name, kind in kinds.items()},
        "images/b.png": large,
        "masks/val/d.png": picture(values=dense),
        "classes.txt": b"background #000000\ncat 128 0 0\n",
        "mapping.yaml": b"cat: animal\nbackground: null\n",
    }
    voc = {
        "JPEGImages/a.jpg": picture("jpg"),
        "ImageSets/Segmentation/train.txt": b"a\n",
        "SegmentationClass/a.png": picture(values=dense),
        "Annotations/a.xml": VOC.encode(),
        "labelmap.txt": b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\n",
    }
    tel = {
        "train/image/a.jpg": picture("jpg"),
        "train/sparse_label/block10/a.png": picture(values=clicks),
        "val/image/b.jpg": picture("jpg"),
        "val/label/b.png": picture(values=dense),
        "classes.txt": classes,
    }
    studio = {
        "export.json": STUDIO.encode(),
        "images/a.png": picture(),
        "images/b.png": picture(values=np.full((3, 5, 3), 90)),
    }
    return [
        Sample("folder", folder),
        Sample("voc", voc),
        Sample("tel", tel),
        Sample("cvat", {"annotations.xml": CVAT.encode(), "images/a.png": large}),
        Sample("labelme", {"a.json": LABELME.encode(), "a.png": picture()}),
        Sample("labelme-web", {"Annotations/a.xml": WEB.encode(), "Images/a.png": picture()}),
        Sample("label-studio", studio),
        Sample("scribblesup", {"a.xml": STROKES.encode(), "a.png": large}),
        *_coco_samples(),
        *_published_samples(),
    ]


def _coco_samples() -> list[Sample]:
    """Make instances, and a panoptic file with its PNG."""
    ids = np.zeros((3, 4, 3))
    ids[:, :2, :2], ids[:, 2:, 0] = (2, 1), 2  # 258 and 2, as red + 256 green
    instances = {"annotations/instances_train.json": COCO.encode(), "images/a.png": picture()}
    panoptic = {
        "annotations/panoptic_train2017.json": PANOPTIC.encode(),
        "annotations/panoptic_train2017/a.png": picture(values=ids),
        "train2017/a.png": picture(),
    }
    return [Sample("coco", instances), Sample("coco-panoptic", panoptic)]


def _published_samples() -> list[Sample]:
    """Make the layouts of Cityscapes, ADE20K, CamVid, mmsegmentation and Datumaro, and SBD's."""
    ids = picture(values=[[7, 7, 11, 0]] * 3)
    city = "train/bonn/bonn_000000_000000"
    cityscapes = {
        f"leftImg8bit/{city}_leftImg8bit.png": picture(),
        f"gtFine/{city}_gtFine_labelIds.png": ids,
    }
    ade20k = {
        "images/training/ADE_train_1.jpg": picture("jpg"),
        "annotations/training/ADE_train_1.png": picture(values=[[0, 1, 2, 150]] * 3),
    }
    objects = picture(values=[[(10, 3, 1), (20, 4, 2), (20, 4, 2), (0, 0, 0)]] * 3)
    ade2017 = {
        "training/street/a.jpg": picture("jpg"),
        "training/street/a_seg.png": objects,
        "training/street/a_atr.txt": ADE_TEXT.encode(),
    }
    ade2021 = {
        "images/ADE/training/street/a.jpg": picture("jpg"),
        "images/ADE/training/street/a_seg.png": objects,
        "images/ADE/training/street/a.json": ADE_JSON.encode(),
    }
    camvid = {
        "train/a.png": picture(),
        "trainannot/a.png": picture(values=[[0, 1, 10, 11]] * 3),
    }
    lists = {
        **camvid,
        "train.txt": b"/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n",
    }
    colors = {
        "701_StillsRaw_full/a.png": picture(),
        "LabeledApproved_full/a_L.png": picture(values=[[(128, 128, 128), (64, 0, 128)] * 2] * 3),
        "label_colors.txt": b"128 128 128\tSky\n# a note\n64 0 128\t\tCar\n0 0 0 Void\n",
    }
    mmseg = {
        "img_dir/train/a.jpg": picture("jpg"),
        "ann_dir/train/a.png": picture(values=[[0, 1, 1, 255]] * 3),
        "classes.txt": b"background\ncat\n",
    }
    datumaro = {
        "train/images/a.jpg": picture("jpg"),
        "train/masks/a.png": picture(values=[[(0, 0, 0), (9, 8, 7)] * 2] * 3),
        "train/dataset_meta.json": META.encode(),
    }
    sbd = {
        **{f"JPEGImages/{name}.jpg": picture("jpg") for name in "ab"},
        **{f"SegmentationClassAug/{name}.png": picture(values=[[0, 8, 8, 8]] * 3) for name in "ab"},
        "SegmentationClass/a.png": picture(values=[[0, 8, 8, 255]] * 3),
        "ImageSets/Segmentation/train.txt": b"a\n",
        "ImageSets/Segmentation/train_aug.txt": (
            b"/JPEGImages/a.jpg /SegmentationClassAug/a.png\n"
            b"/JPEGImages/b.jpg /SegmentationClassAug/b.png\n"
        ),
    }
    return [
        Sample("cityscapes", cityscapes),
        Sample("ade20k", ade20k),
        Sample("ade20k-full", ade2017, "2017"),
        Sample("ade20k-full", ade2021, "2021"),
        Sample("camvid", camvid),
        Sample("camvid", lists, "lists"),
        Sample("camvid", colors, "colours"),
        Sample("mmseg", mmseg),
        Sample("datumaro", datumaro),
        Sample("voc", sbd, "sbd"),
    ]
