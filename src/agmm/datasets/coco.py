"""The layouts of COCO (Lin et al., *Microsoft COCO: Common Objects in Context*).

::

    annotations/KIND_SPLIT.json      instances_train2017.json, panoptic_val2017.json, …
    annotations/panoptic_SPLIT/      the PNGs of panoptic_SPLIT.json
    images/SPLIT/ or SPLIT/          the pictures; train2017 is train
    *.json                           the same files without a folder
    SPLIT/_annotations.coco.json     with the pictures of the split, as Roboflow exports them
    classes.txt                      the classes; else the categories of the files, sorted by id

One kind is read, as each has classes of its own: the one that most splits have, and of several the
first of ``panoptic``, ``stuff``, ``instances``, ``person_keypoints`` and ``labels``; the formats
``coco-stuff``, … choose another one. ``image_info`` gives the pictures of splits that have nothing
else; ``captions`` have no classes and are refused where there is nothing else.

========================== ======================== =========================== ==================
kind                       tags                     boxes                       dense masks
========================== ======================== =========================== ==================
instances, person_keypoints classes of annotations  all ``bbox``, crowds too    polygons and runs
stuff                      classes of annotations   none                        polygons and runs
panoptic                   classes of segments      those of the things         the PNGs
labels                     the categories           none                        none
========================== ======================== =========================== ==================

Instances, keypoints and labels name objects only, so their classes start with ``background`` unless
there is one: it is what no segmentation covers, and a picture without annotations is all
background. In stuff and panoptic masks, what is not covered is 255 = unlabelled. So are crowds,
whose outlines are coarse; in stuff files ``iscrowd`` only says that the mask is made of runs.
Keypoints are not read: they mark joints, which may be hidden or beside the outline. A picture whose
annotations have boxes but no segmentation has no dense mask.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from agmm.datasets.beside import Label
from agmm.datasets.classes import Classes, Color
from agmm.datasets.coco_json import (
    KINDS,
    Category,
    CocoFile,
    CocoImage,
    Kind,
    named_kind,
    read_coco_file,
)
from agmm.datasets.coco_masks import Annotated, box_shapes, read_panoptic, read_segments, tag_shapes
from agmm.datasets.listing import picture_name
from agmm.datasets.places import find_first, relative_name, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn
from agmm.datasets.tools import Picture, classes_of, read_tool
from agmm.errors import DataError
from agmm.labels.forms import Form

_LABELLED: tuple[Kind, ...] = KINDS[: KINDS.index("captions")]
_OBJECTS: tuple[Kind, ...] = ("instances", "keypoints", "labels")
"""Kinds whose categories are objects, with a background between them."""

_HEAD = 2**16
"""So many bytes at the start and the end of a file are searched for the sign."""

_SIGNS = (
    re.compile(rb'"images"\s*:\s*\[\s*(\{\s*"|\])'),
    re.compile(rb'"annotations"\s*:\s*\[\s*(\{\s*"|\])'),
    re.compile(rb'"categories"\s*:\s*\[\s*(\{\s*"|\])'),
)


def is_coco(root: Path) -> bool:
    """Say whether a folder has JSON files of COCO.

    Args:
        root: The data set's folder.

    Returns:
        Whether one of them, in ``annotations/``, in the folder itself or as Roboflow puts them,
        starts and ends as an object with two of images, annotations and categories.

    Example:
        >>> is_coco(Path("a/folder/that/is/missing"))
        False
    """
    return any(_has_sign(file) for file in [*_places(root)][:64])


def read_coco(root: Path, *, kind: Kind | None = None) -> Dataset:
    """List the pictures and labels of a data set in a layout of COCO; decodes no picture.

    Args:
        root: The data set's folder.
        kind: Which annotations are read; None takes those that most splits have, and of several
            the first of panoptic, stuff, instances, keypoints and labels.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No file of this kind, a file that cannot be read, a picture outside of the data
            folder, in two folders or named twice, no picture at all, or bad classes.
    """
    files = _read_files(root, kind)
    names, colors = _names(files)
    classes = classes_of(root, names, files[0].path, colors)
    labelled = {_split(root, file.path) for file in files if file.kind != "image_info"}
    pictures: list[Picture] = []
    for file in files:
        split = _split(root, file.path)
        if file.kind != "image_info" or split not in labelled:
            pictures.extend(_pictures(root, file, split, classes))
    return read_tool(root, classes, pictures)


def _places(root: Path) -> Iterator[Path]:
    """Give the JSON files that may be COCO's."""
    for pattern in ("annotations/*.json", "*.json", "*/_annotations.coco.json"):
        yield from (file for file in sorted(root.glob(pattern)) if file.name[0] != ".")


def _has_sign(file: Path) -> bool:
    if file.parent.name == "annotations" and named_kind(file)[0] is not None:
        return True
    try:
        with file.open("rb") as opened:
            text = opened.read(_HEAD)
            opened.seek(max(_HEAD, file.stat().st_size - _HEAD))
            text += b" " + opened.read(_HEAD)
    except OSError:
        return False
    found = [bool(sign.search(text)) for sign in _SIGNS]
    an_object = text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    # Between the two parts may lie everything but the pictures.
    return an_object and (sum(found) > 1 or (found[0] and b'"file_name"' in text))


def _read_files(root: Path, kind: Kind | None) -> list[CocoFile]:
    """Read the files of one kind, and those that only name pictures."""
    paths = [file for file in _places(root) if _has_sign(file)]
    known: dict[Path, CocoFile] = {}

    def read(path: Path) -> CocoFile:
        if path not in known:
            known[path] = read_coco_file(path)
        return known[path]

    files: list[CocoFile] = []
    kinds: dict[Path, Kind] = {}
    for trust_names in (True, False):  # large files of another kind need not be read
        for path in paths:
            kinds[path] = (named_kind(path)[0] if trust_names else None) or read(path).kind
        chosen = kind or _best(root, kinds)
        candidates = [read(path) for path, found in kinds.items() if found == chosen]
        files = [file for file in candidates if file.kind == chosen]
        if files:
            break
    pictures = [read(path) for path, found in kinds.items() if found == "image_info"]
    pictures = [file for file in pictures if file.kind == "image_info"]
    if not files and (kind or not pictures):
        there = ", ".join(f"{path.name} ({found})" for path, found in kinds.items())
        raise DataError(
            f"{root}: there is no JSON of COCO with {kind or 'labels'}; found: {there or 'none'}."
            " Captions and image_info say no class: put instances_train.json, or another kind, into"
            " annotations/."
        )
    return [*files, *pictures]


def _best(root: Path, kinds: Mapping[Path, Kind]) -> Kind:
    """Choose the kind that most splits have, and of several the first in the order of `KINDS`."""
    pairs = {(_split(root, path), kind) for path, kind in kinds.items()}
    return max(_LABELLED, key=lambda wanted: sum(kind == wanted for _, kind in pairs))


def _split(root: Path, path: Path) -> str:
    """Tell the split by the name of the file or its folder: train2017 is train."""
    subset = named_kind(path)[1]
    if path.name == "_annotations.coco.json":
        subset = path.parent.name if path.parent != root else ""
    words = [re.sub(r"\d{4}$", "", word) for word in re.split(r"[-_. ]+", subset)]
    known = {split for word in words if (split := split_name(word))}
    if len(known) == 1:
        return known.pop()
    own = any((root / folder / subset).is_dir() for folder in ("images", ""))
    return subset if subset and own else "train"


def _names(files: Sequence[CocoFile]) -> tuple[list[str], list[Color | None]]:
    """Join the categories of the files, by id, and put the background first if it is needed."""
    joined: dict[int, Category] = {}
    for file in files:
        seen: dict[str, int] = {}
        for own, category in file.categories.items():
            before = joined.setdefault(own, category)
            if before.name != category.name or category.name in seen:
                raise DataError(
                    f"{file.path}: the category {own} is {category.name!r}, but"
                    f" {seen.get(category.name, before.name)!r} has this id or name too. Give every"
                    " category one id and one name in all files."
                )
            seen[category.name] = own
    found = {joined[own].name: joined[own].color for own in sorted(joined)}
    objects = any(file.kind in _OBJECTS for file in files)
    if objects and "background" not in {name.casefold() for name in found}:
        black: Color | None = (0, 0, 0) if (0, 0, 0) not in found.values() else None
        found = {"background": black, **found}
    return [*found], [*found.values()]


def _pictures(root: Path, file: CocoFile, split: str, classes: Classes) -> Iterator[Picture]:
    names = {own: category.name for own, category in file.categories.items()}
    things = frozenset(own for own, category in file.categories.items() if category.thing)
    folders = _folders(root, file, split)
    own_tags = not (root / "tags.csv").is_file()
    for image in file.images:
        name = relative_name(image.name, str(file.path))
        groups = ([f"{folder}{name}" for folder in group] for group in folders)
        found = find_first(root, groups, str(file.path))
        texts, crowds = tuple(image.annotations), file.kind != "stuff"
        annotated = Annotated(file.path, texts, names, things, crowds, image.size)
        labels = _labels(root, file, image, annotated, classes)
        if not own_tags:
            labels.pop("tags", None)
        yield Picture(file.path, picture_name(name), split, found, labels)


def _folders(root: Path, file: CocoFile, split: str) -> list[list[str]]:
    """Give the folders that pictures of a file may lie in, as "a/b/", by how much they say.

    First those of its split, then those of all. The PNGs of a panoptic file may lie beside it and
    be called as their pictures are, which lie elsewhere then.
    """
    parent = file.path.parent.relative_to(root).as_posix()
    beside = "" if parent == "." else f"{parent}/"
    own = [beside] if file.path.name == "_annotations.coco.json" and beside else []
    subsets = [*dict.fromkeys(name for name in (file.subset, split) if name)]
    named = [*own, *(f"{folder}{name}/" for name in subsets for folder in ("images/", ""))]
    shared = [*dict.fromkeys(["images/", "", "input_images/", beside])]
    groups = [[*dict.fromkeys(named)], shared]
    if file.kind == "panoptic":
        shared.remove(beside)
        groups.append([beside])
    return [[folder for folder in group if (root / folder).is_dir()] for group in groups]


def _labels(
    root: Path, file: CocoFile, image: CocoImage, found: Annotated, classes: Classes
) -> dict[Form, Drawn | Label]:
    """Say how the labels of a picture are read; what nobody annotated has none."""
    path, kind = file.path, file.kind
    if kind == "image_info" or not (found.texts or kind in {"instances", "keypoints"}):
        return {}
    labels: dict[Form, Drawn | Label] = {}
    labels["tags"] = Drawn(path, "tags", partial(tag_shapes, found), found.size)
    if kind not in {"stuff", "labels"} and found.things and "bbox" in file.members:
        labels["boxes"] = Drawn(path, "boxes", partial(box_shapes, found), found.size)
    if kind == "panoptic":
        beside = path.parent.relative_to(root).as_posix()
        places = (f"{beside}/{path.stem}/", f"{path.stem}/", f"{beside}/")
        labels["dense"] = Label(path, partial(read_panoptic, found, places, root, classes))
    elif image.outlined or ("segmentation" in file.members and not found.texts):
        labels["dense"] = Label(path, partial(read_segments, found, classes))
    return labels
