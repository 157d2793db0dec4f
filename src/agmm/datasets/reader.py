"""Path and format to records."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from agmm.datasets.ade20k import is_ade20k, read_ade20k
from agmm.datasets.ade20k_full import is_ade20k_full, read_ade20k_full
from agmm.datasets.camvid import is_camvid, read_camvid
from agmm.datasets.check import checked
from agmm.datasets.cityscapes import is_cityscapes, read_cityscapes
from agmm.datasets.coco import is_coco, read_coco
from agmm.datasets.cvat import is_cvat, read_cvat
from agmm.datasets.folder import is_folder, read_folder
from agmm.datasets.label_studio import is_label_studio, read_label_studio
from agmm.datasets.labelme import is_labelme, read_labelme
from agmm.datasets.labelme_web import is_labelme_web, read_labelme_web
from agmm.datasets.mapping import mapped, read_mapping
from agmm.datasets.paired import (
    is_datumaro_pairs,
    is_mmseg,
    read_datumaro_pairs,
    read_mmseg,
)
from agmm.datasets.records import Dataset
from agmm.datasets.scribblesup import is_scribblesup, read_scribblesup
from agmm.datasets.tel import is_tel, read_tel
from agmm.datasets.voc import is_voc, read_voc
from agmm.errors import ConfigError, DataError

__all__ = ["FORMATS", "checked", "find_format", "read_dataset"]

_FORMATS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Dataset], str]] = {
    "voc": (is_voc, read_voc, "JPEGImages/ and ImageSets/Segmentation/ or Annotations/"),
    "cityscapes": (is_cityscapes, read_cityscapes, "leftImg8bit/ and gtFine/ or gtCoarse/"),
    "ade20k": (is_ade20k, read_ade20k, "images/, annotations/ and objectInfo150.csv or ADE_*.png"),
    "ade20k-full": (is_ade20k_full, read_ade20k_full, "NAME_seg.png below training/"),
    "camvid": (is_camvid, read_camvid, "train/ and trainannot/, or LabeledApproved_full/"),
    "mmseg": (is_mmseg, read_mmseg, "img_dir/ and ann_dir/"),
    "datumaro": (
        is_datumaro_pairs,
        read_datumaro_pairs,
        "images/, masks/ and dataset_meta.json",
    ),
    "cvat": (is_cvat, read_cvat, "XML of CVAT, with <annotations>"),
    "coco": (is_coco, read_coco, "annotations/instances_train.json or the like"),
    "label-studio": (is_label_studio, read_label_studio, "JSON of Label Studio"),
    "labelme": (is_labelme, read_labelme, "JSON files of labelme beside the pictures"),
    "labelme-web": (is_labelme_web, read_labelme_web, "Images/ and Annotations/ of LabelMe"),
    "scribblesup": (is_scribblesup, read_scribblesup, "XML of ScribbleSup beside pictures"),
    "tel": (is_tel, read_tel, "train/image/ and train/sparse_label/"),
    "folder": (is_folder, read_folder, "images/ and classes.txt"),
}
"""Name to: how it is recognised, how it is read, and what it is recognised by.

The first that fits is taken: "folder" comes last, as ``images/`` and ``classes.txt`` may lie beside
the files of a tool.
"""

_BELOW = ("cvat", "scribblesup")
"""Those that are recognised in folders below as well, where the layout is no other."""

_CHOICES: dict[str, Callable[[Path], Dataset]] = {
    "coco-panoptic": partial(read_coco, kind="panoptic"),
    "coco-stuff": partial(read_coco, kind="stuff"),
    "coco-instances": partial(read_coco, kind="instances"),
    "coco-keypoints": partial(read_coco, kind="keypoints"),
    "coco-labels": partial(read_coco, kind="labels"),
}
"""Formats that a layout with several kinds of annotations is also read as, if they are named."""

FORMATS: tuple[str, ...] = ("auto", *_FORMATS, *_CHOICES)


def find_format(root: Path) -> str | None:
    """Recognise the layout of a data set.

    Args:
        root: The data set's folder.

    Returns:
        The name of the format; None if it is no known one.

    Example:
        >>> find_format(Path("a/folder/that/is/missing")) is None
        True
    """
    found = (name for name, (recognise, _, _) in _FORMATS.items() if recognise(root))
    below = (name for name in _BELOW if any(map(_FORMATS[name][0], _folders(root))))
    return next(found, None) or next(below, None)


def _folders(root: Path) -> Iterator[Path]:
    """Give the folders at most two levels below where the files of a tool may lie."""
    for path in (*root.glob("*/"), *root.glob("*/*/")):
        parts = path.relative_to(root).parts
        # scribblesup/ may lie beside any layout, and says nothing of it.
        if path.is_dir() and parts[-1] != "scribblesup" and not any(p[0] == "." for p in parts):
            yield path


def read_dataset(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the option is called so
    mapping: Mapping[str, str | None] | str | Path | None = None,
) -> Dataset:
    """List the pictures and labels of a data set; no picture is decoded.

    Every form of label that lies there is listed, whether it will be used or not. To make sure
    that everything can be read before hours of training, call
    `checked` next.

    Args:
        path: The data set's folder.
        format: How it is laid out: "folder" (``images/``, ``masks/``, ``classes.txt``), "voc"
            (``JPEGImages/``, ``ImageSets/``, ``SegmentationClass/``, ``Annotations/``),
            "cityscapes" (``leftImg8bit/``), "ade20k" (SceneParsing), "ade20k-full"
            (``NAME_seg.png``), "camvid" (``trainannot/``), "mmseg" (``img_dir/``, ``ann_dir/``),
            "datumaro" (``dataset_meta.json``), "cvat" (its XML), "coco" (its JSON;
            "coco-panoptic", "coco-stuff", "coco-instances", "coco-keypoints" and "coco-labels" say
            which), "labelme" (the program's JSON files), "labelme-web" (``Images/`` and
            ``Annotations/``), "label-studio" (its JSON),
            "scribblesup" (its XML), "tel" (``train/sparse_label/``), or "auto" to find out. Beside
            each may lie ``masks/``, ``points/``, ``scribbles/``, ``blocks/``, ``scribblesup/``,
            ``boxes.csv``, ``tags.csv`` and ``clicks.json``.
        mapping: Classes to rename, merge or drop: old name to new name or None, or a YAML file of
            that; see `agmm.datasets.mapping`.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        ConfigError: An unknown format.
        DataError: No such folder, an empty one, one of no known layout, names that are not
            unique, or a mapping that cannot be used.

    Example:
        >>> read_dataset("a/folder/that/is/missing")
        Traceback (most recent call last):
        agmm.errors.DataError: a/folder/that/is/missing: there is no such folder. Correct the path.
    """
    if format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, but is {format!r}.")
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder. Correct the path.")
    found = sorted(entry.name for entry in root.iterdir())
    if not found:
        raise DataError(f"{root}: is empty. Put pictures into {root / 'images'}.")
    if format in _CHOICES:
        return _finished(_CHOICES[format](root), format, mapping)
    name = find_format(root) if format == "auto" else format
    if name is not None:
        return _finished(_read(root, name), name, mapping)
    looked_for = "; ".join(f"{name}: {signs}" for name, (_, _, signs) in _FORMATS.items())
    entries = ", ".join(found[:10]) + (" and more" if len(found) > 10 else "")
    raise DataError(
        f"{root}: has no layout that is known. Looked for {looked_for}. Found {entries}. Arrange"
        " the files in such a layout, or name the format."
    )


def _read(root: Path, name: str) -> Dataset:
    """Read a format; where the folder does not look like it, an error says so as well."""
    recognise, read, signs = _FORMATS[name]
    try:
        return read(root)
    except DataError as error:
        if recognise(root) or (name in _BELOW and any(map(recognise, _folders(root)))):
            raise
        looks = find_format(root)
        instead = f"looks like {looks}" if looks else "does not look like it"
        raise DataError(
            f"{error} The format {name!r} is known by {signs}; {root} {instead}."
        ) from error


def _finished(
    dataset: Dataset, name: str, mapping: Mapping[str, str | None] | str | Path | None
) -> Dataset:
    dataset = replace(dataset, format=name)
    if mapping is None:
        return dataset
    named = read_mapping(Path(mapping)) if isinstance(mapping, str | Path) else mapping
    return mapped(dataset, named)
