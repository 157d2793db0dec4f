"""The layout of the web tool LabelMe (Russell et al., IJCV 2008): one XML file for each picture.

::

    Images/[FOLDER/]NAME.jpg         pictures
    Annotations/[FOLDER/]NAME.xml    their objects
    Masks/[FOLDER/]NAME_mask_1.png   the masks that objects name
    classes.txt                      the classes; else the names in the files, sorted

Polygons and masks are blocks, and polygons of the type ``bounding_box`` are boxes; the later object
lies on top. Deleted objects do not count. The strokes in ``Scribbles/``, from which masks were
computed, are not read. A folder that is named as a split makes its pictures that split; all others
are ``train``.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from agmm.datasets.images import image_size, read_image
from agmm.datasets.listing import list_files
from agmm.datasets.markup import read_xml, root_tag, text_of, whole
from agmm.datasets.places import find_picture, relative_name, split_name
from agmm.datasets.records import Dataset
from agmm.datasets.shapes import Drawn, Shape
from agmm.datasets.tools import Picture, classes_of, read_tool
from agmm.errors import DataError
from agmm.labels.forms import Form


def is_labelme_web(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``Images/`` and ``Annotations/``, with an XML file whose root is
        <annotation>.

    Example:
        >>> is_labelme_web(Path("a/folder/that/is/missing"))
        False
    """
    # The names in capitals, also where the file system does not care.
    names = {path.name for path in root.iterdir()} if root.is_dir() else set()
    if not {"Images", "Annotations"} <= names:
        return False
    files = list_files(root / "Annotations", (".xml",))
    return any(root_tag(file) == "annotation" for file in [*files.values()][:8])


def read_labelme_web(root: Path) -> Dataset:
    """List the pictures and objects of a data set in this layout; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: A file that cannot be read, a picture outside of the data folder, an object
            without a name, no picture at all, or bad classes.
    """
    names: set[str] = set()
    pictures: list[Picture] = []
    for file in list_files(root / "Annotations", (".xml",)).values():
        tree = read_xml(file)
        if tree.tag != "annotation":
            raise DataError(
                f"{file}: must be an <annotation>, but is a <{tree.tag}>. Export it from LabelMe."
            )
        grouped = _grouped(tree, file)
        names |= {text_of(element, "name") for found in grouped.values() for element in found}
        pictures.append(_picture(root, file, tree, grouped))
    return read_tool(root, classes_of(root, sorted(names), root / "Annotations"), pictures)


def _grouped(tree: Element, file: Path) -> dict[Form, tuple[Element, ...]]:
    """Sort the objects that are not deleted by the form of label that they give."""
    grouped: dict[Form, list[Element]] = defaultdict(list)
    for number, element in enumerate(tree.iterfind("object"), start=1):
        if text_of(element, "deleted") not in {"", "0"}:
            continue
        if not text_of(element, "name"):
            raise DataError(f"{file}, object {number}: has no name. Name its class.")
        has_polygon = element.find("polygon") is not None
        if not has_polygon and element.find("segm") is None:
            raise DataError(
                f"{file}, object {number}: has neither a polygon nor a mask. Draw or remove it."
            )
        is_box = has_polygon and text_of(element, "type") == "bounding_box"
        grouped["boxes" if is_box else "blocks"].append(element)
    return {form: tuple(found) for form, found in grouped.items()}


def _picture(
    root: Path, file: Path, tree: Element, grouped: dict[Form, tuple[Element, ...]]
) -> Picture:
    name = relative_name(text_of(tree, "filename"), str(file))
    subset = text_of(tree, "folder")
    folder = relative_name(subset, str(file)) if subset else ""
    height, width = whole(text_of(tree, "imagesize/nrows")), whole(text_of(tree, "imagesize/ncols"))
    size = (height, width) if height and width else None
    drawn = {
        form: Drawn(file, form, partial(_shapes, objects, root, folder, str(file)), size)
        for form, objects in grouped.items()
    }
    path = f"{folder}/{name}" if folder else name
    split = next(filter(None, map(split_name, folder.split("/"))), "train")
    key = path.rpartition(".")[0] or path
    return Picture(file, key, split, find_picture(root, [f"Images/{path}"], str(file)), drawn)


def _shapes(
    objects: tuple[Element, ...], root: Path, folder: str, where: str, size: tuple[int, int]
) -> list[Shape]:
    from agmm.datasets.datumaro_tools import labelme_shapes

    polygons = iter(labelme_shapes(e for e in objects if e.find("polygon") is not None))
    return [
        next(polygons)
        if element.find("polygon") is not None
        else _mask(element, root, folder, f"{where}, mask {number}", size)
        for number, element in enumerate(objects, start=1)
    ]


def _mask(element: Element, root: Path, folder: str, where: str, size: tuple[int, int]) -> Shape:
    """Read a mask, which may be grey or coloured; Datumaro fails at a grey one."""
    name = relative_name(text_of(element, "segm/mask"), where)
    place = f"Masks/{folder}/{name}" if folder else f"Masks/{name}"
    path = find_picture(root, [place], where)
    if path is None:
        raise DataError(f"{where}: there is no file {place}. Add it, or remove the object.")
    if image_size(path) != size:
        height, width = image_size(path)
        raise DataError(
            f"{path}: has {width}x{height} pixels (width x height), but its picture has"
            f" {size[1]}x{size[0]}. Export it again."
        )
    inside = (read_image(path) > 0).max(axis=2)
    return Shape(text_of(element, "name"), patch=((slice(0, size[0]), slice(0, size[1])), inside))
