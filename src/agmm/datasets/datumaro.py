"""What Datumaro reads of PASCAL VOC; it is slow to import, so import this module where it is used.

Datumaro's readers of whole VOC data sets decode every mask when they list the pictures, take
the sizes and paths that an XML file claims, refuse links, and stop at the first bad file. So only
the ``object`` elements go through it, from trees that defusedxml has parsed, which refuses
entities. The lists, the pictures and the masks are read by `agmm.datasets.voc`.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np
from datumaro.components.annotation import Bbox
from datumaro.components.errors import DatumaroError
from datumaro.plugins.data_formats.voc.base import VocDetectionBase
from datumaro.plugins.data_formats.voc.format import (
    LabelMapConfig,
    VocTask,
    make_voc_categories,
    parse_label_map,
)

from agmm.datasets.classes import Color
from agmm.datasets.markup import read_xml
from agmm.errors import DataError
from agmm.labels.annotations import Boxes

_MAX_BYTES = 16 * 2**20
"""The largest XML file of one picture: some hundred thousand boxes."""


class VocXml(VocDetectionBase):  # type: ignore[misc]
    """Reads the XML files of VOC, one per picture; see `read`.

    Args:
        names: The names of the classes, in the order of their indices.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        super().__init__("ImageSets/Main/train.txt", coordinate_mode="voc-one-based")

    def _load_categories(self, dataset_path: str) -> object:  # noqa: ARG002
        """Take our classes; Datumaro would look for a label map of its own."""
        label_map: LabelMapConfig = {name: (None, [], []) for name in self._names}
        return make_voc_categories(label_map, VocTask.voc_detection)

    def _load_subset_list(self, subset_path: str) -> Sequence[str]:  # noqa: ARG002
        """Take no list: the files are read one by one."""
        return ()

    def read(self, path: Path) -> tuple[Boxes, tuple[int, int] | None]:
        """Read one file: the objects of one picture, those marked as difficult among them.

        The corners are 1-based and inclusive on the disk, so 1 is taken off the minima. Datumaro
        rounds to hundredths of a pixel.

        Args:
            path: The file.

        Returns:
            The boxes, as they are: reversed ones and those outside of the picture as well; and
            (H, W) of the picture in pixels, if the file says it.

        Raises:
            DataError: No XML of this kind, entities, a name that leads out of the folder, an
                object without a class of ours, or one without four finite numbers.
        """
        root = _parse(path)
        self._check_names(root, path)
        try:
            size = tuple(
                self._parse_field(root, f"size/{side}", int, required=False)
                for side in ("height", "width")
            )
            with np.errstate(over="ignore"):  # Datumaro keeps float32; infinity is refused below
                found = self._parse_annotations(root, item_id=(path.stem, path.parent.name))
        except DatumaroError as error:
            raise DataError(f"{path}: {_explained(error)}") from error
        boxes = [box for box in found if isinstance(box, Bbox)]
        xyxy = np.array([box.points for box in boxes], dtype=np.float64).reshape(-1, 4)
        bad = np.flatnonzero(~np.isfinite(xyxy).all(axis=1))
        if bad.size:
            raise DataError(
                f"{path}: object {bad[0] + 1} has a coordinate that is no finite number. Correct"
                " or remove the object."
            )
        classes = np.array([box.label for box in boxes], dtype=np.uint8)
        return Boxes(xyxy, classes), size if all(size) else None

    def _check_names(self, root: Element, path: Path) -> None:
        for number, element in enumerate(root.iterfind("object"), start=1):
            name = element.findtext("name")
            if name not in self._names:
                raise DataError(
                    f"{path}, object {number}: {name!r} is no class; the classes are"
                    f" {', '.join(self._names)}. Correct the name, or add it to classes.txt."
                )


def read_label_map(path: Path) -> tuple[tuple[str, Color | None], ...]:
    """Read the ``labelmap.txt`` that tools write beside the VOC layout.

    Args:
        path: The file: lines ``name:r,g,b:parts:actions``.

    Returns:
        Name and colour of each class, in the order of the indices; the colour None if it has none.

    Raises:
        DataError: Datumaro cannot read it.
    """
    try:
        label_map = parse_label_map(str(path))
    except (DatumaroError, ValueError, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as a label map ({error}). Write lines such as"
            " 'cat:64,0,0::', or a classes.txt instead."
        ) from error
    return tuple((name, color) for name, (color, _, _) in label_map.items())


def _parse(path: Path) -> Element:
    """Parse the annotation of one picture."""
    root = read_xml(path, limit=_MAX_BYTES)
    if root.tag != "annotation":
        raise DataError(
            f"{path}: must be an <annotation>, but is a <{root.tag}>. Export it as PASCAL VOC."
        )
    # The name is not used: pictures are found by the lists. But one that leads elsewhere is no
    # slip of a tool.
    name = (root.findtext("filename") or "").replace("\\", "/")
    if ".." in PurePosixPath(name).parts:
        raise DataError(f"{path}: the filename {name!r} leads out of the folder. Correct it.")
    return root


def _explained(error: DatumaroError) -> str:
    """Say what Datumaro found; it wraps the reason, and the reason of the reason."""
    cause: BaseException = error
    while cause.__cause__ is not None and isinstance(cause.__cause__, DatumaroError):
        cause = cause.__cause__
    return f"{str(cause).rstrip('.')}. Correct it, or remove the object."
