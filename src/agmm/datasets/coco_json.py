"""One JSON file of COCO (Lin et al., *Microsoft COCO: Common Objects in Context*).

Datumaro's reader of COCO keeps all annotations as objects in memory, needs ``iscrowd`` and ``bbox``
of each, drops the class of the category 0, which other tools use, warns where a picture is unknown,
and trusts the sizes of masks; so the file is read here. Of every annotation its text is kept, which
takes a fraction of the memory, and is decoded when a label is asked for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from agmm.datasets.classes import Color
from agmm.datasets.coco_fields import filled, integer, members, name_of
from agmm.datasets.text import read_json_members, shown
from agmm.errors import DataError

Kind = Literal["panoptic", "stuff", "instances", "keypoints", "labels", "captions", "image_info"]
"""What the annotations of a file are; those before others are read if a data set has several."""

KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_BYTES = 2 * 2**30
"""The largest file that is read; the largest of COCO 2017 has half a gigabyte."""

_T = TypeVar("_T")

_PREFIXES: dict[str, Kind] = {
    "panoptic": "panoptic",
    "stuff": "stuff",
    "instances": "instances",
    "person_keypoints": "keypoints",
    "labels": "labels",
    "captions": "captions",
    "image_info": "image_info",
}
_SIGNS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("panoptic", ("segments_info",)),
    ("captions", ("caption",)),
    ("keypoints", ("keypoints",)),
    ("instances", ("bbox", "segmentation")),
    ("labels", ("category_id",)),
)
"""Kind to the members of annotations that tell it, the strongest sign first."""


_TOLD = frozenset(name for _, signs in _SIGNS for name in signs)


@dataclass(frozen=True)
class Category:
    """One category of a file.

    Args:
        name: Its name.
        color: Its colour; None if the file gives none.
        thing: Whether it is one of countable objects, and not the stuff between them.
    """

    name: str
    color: Color | None = None
    thing: bool = True


class _Where(NamedTuple):
    """What stands where, for messages; it is put into words only if there is one."""

    path: Path
    key: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}, {self.key} {self.number}"


@dataclass
class CocoImage:
    """One picture of a file.

    Args:
        name: Its file as it is named there.
        size: (H, W) in pixels; None if it is not said.
        annotations: The text of each of its annotations, in their order.
        outlined: Whether one of them has a segmentation.
    """

    name: str
    size: tuple[int, int] | None
    annotations: list[str] = field(default_factory=list)
    outlined: bool = False


@dataclass(frozen=True)
class CocoFile:
    """What one file says.

    Args:
        path: The file.
        kind: What its annotations are.
        subset: The rest of its name, such as "train2017"; empty if there is none.
        categories: Id to category, sorted by id.
        images: The pictures.
        members: Which members some annotation or segment has, not empty.
    """

    path: Path
    kind: Kind
    subset: str
    categories: Mapping[int, Category]
    images: tuple[CocoImage, ...]
    members: frozenset[str]


def read_coco_file(path: Path) -> CocoFile:
    """Read a file; of the annotations, ids are checked, and the rest is kept as it is.

    Args:
        path: The file.

    Returns:
        Its categories, and its pictures with their annotations.

    Raises:
        DataError: No JSON of COCO, an id that is no whole number, comes twice or is unknown, or a
            picture or a category without a name.
    """
    images: dict[int, CocoImage] = {}
    categories: dict[int, Category] = {}
    found = _Annotations(path)
    number = Counter[str]()
    for key, value, text in read_json_members(path, limit=MAX_BYTES):
        if key not in {"images", "categories", "annotations"}:
            continue
        number[key] += 1
        where = _Where(path, key, number[key])
        entry = members(value, where)
        if key == "annotations":
            found.add(entry, text, where)
        elif key == "images":
            _put(images, entry, _image(entry, where), where)
        else:
            _put(categories, entry, _category(entry, where), where)
    found.give(images, categories)
    kind, subset = _kind(path, found.members)
    return CocoFile(
        path,
        kind,
        subset,
        dict(sorted(categories.items())),
        tuple(images.values()),
        frozenset(found.members),
    )


def named_kind(path: Path) -> tuple[Kind | None, str]:
    """Tell what a file should hold by its name alone.

    Args:
        path: The file.

    Returns:
        Its kind, None if the name does not begin with one, and the rest of the name.

    Example:
        >>> named_kind(Path("person_keypoints_val2017.json")), named_kind(Path("train.json"))
        (('keypoints', 'val2017'), (None, 'train'))
    """
    stem = path.name.split(".")[0]
    prefix = next((p for p in _PREFIXES if stem == p or stem.startswith(f"{p}_")), None)
    if prefix is None:
        return None, stem.strip("_")
    return _PREFIXES[prefix], stem.removeprefix(prefix).strip("_")


class _Annotations:
    """The annotations of a file, by the id of their picture."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: set[int] = set()
        self._categories: dict[int, object] = {}
        self._of: dict[int, list[str]] = {}
        self._outlined: set[int] = set()
        self.members: set[str] = set()

    def add(self, entry: Mapping[str, object], text: str, where: object) -> None:
        picture = integer(entry, "image_id", where)
        if "id" in entry:
            own = integer(entry, "id", where)
            if own in self._ids:
                raise DataError(f"{where}: the id {own} is there twice. Correct or remove one.")
            self._ids.add(own)
        self.members |= {key for key in _TOLD - self.members if filled(entry, key)}
        if filled(entry, "segmentation"):
            self._outlined.add(picture)
        if "segments_info" in entry:
            for segment in _segments(entry, where):
                self._know(segment, where)
                self.members |= {"bbox"} if "bbox" in segment else set()
        elif "caption" not in entry:
            self._know(entry, where)
        self._of.setdefault(picture, []).append(text)

    def _know(self, entry: Mapping[str, object], where: object) -> None:
        category = integer(entry, "category_id", where)
        if category not in self._categories:
            self._categories[category] = where

    def give(self, images: Mapping[int, CocoImage], categories: Mapping[int, Category]) -> None:
        """Give the annotations to their pictures; all ids must be known."""
        for category, where in self._categories.items():
            if category not in categories:
                raise DataError(
                    f"{where}: the category {category} is none of the {len(categories)} in"
                    " 'categories'. Add it there, or correct category_id."
                )
        for picture, texts in self._of.items():
            if picture not in images:
                raise DataError(
                    f"{self._path}: {len(texts)} annotations have the image_id {picture}, which is"
                    f" none of the {len(images)} in 'images'. Add it there, or correct image_id."
                )
            images[picture].annotations = texts
            images[picture].outlined = picture in self._outlined


def _segments(entry: Mapping[str, object], where: object) -> list[Mapping[str, object]]:
    value = entry["segments_info"]
    if not isinstance(value, list):
        raise DataError(
            f"{where}: segments_info must be a list, but is {shown(value)}. Correct it."
        )
    return [members(segment, f"{where}, segments_info") for segment in value]


def _put(known: dict[int, _T], entry: Mapping[str, object], value: _T, where: object) -> None:
    own = integer(entry, "id", where)
    if own in known:
        raise DataError(f"{where}: the id {own} is there twice. Correct or remove one.")
    known[own] = value


def _image(entry: Mapping[str, object], where: object) -> CocoImage:
    height, width = (
        integer(entry, side, where) if entry.get(side) is not None else 0
        for side in ("height", "width")
    )
    if height < 0 or width < 0:
        raise DataError(f"{where}: has {width}x{height} pixels (width x height). Correct it.")
    return CocoImage(
        name_of(entry, "file_name", where), (height, width) if height and width else None
    )


def _category(entry: Mapping[str, object], where: object) -> Category:
    color = entry.get("color")
    channels = color if isinstance(color, list) else []
    usable = len(channels) == 3 and all(type(c) is int and 0 <= c <= 255 for c in channels)
    # A colour is for the figures only: one that is none does no harm.
    return Category(
        name_of(entry, "name", where),
        (channels[0], channels[1], channels[2]) if usable else None,
        entry.get("isthing", 1) != 0,
    )


def _kind(path: Path, found: set[str]) -> tuple[Kind, str]:
    """Tell the kind by the annotations, where these leave it open by the name; and the subset."""
    named, subset = named_kind(path)
    told = next((kind for kind, signs in _SIGNS if found.intersection(signs)), None)
    # Keypoints may all be empty, and stuff looks as instances do.
    if told is None or (told == "instances" and named in {"stuff", "keypoints"}):
        return named or "image_info", subset
    return told, subset
