"""The layout of ADE20K SceneParsing (Zhou et al., CVPR 2017), the benchmark of 150 classes.

::

    images/training/NAME.jpg         pictures; "training" is the split "train", "validation" "val"
    annotations/training/NAME.png    dense masks: 0 = other, which is unlabelled, and 1..150
    classes.txt                      other names, if need be

The pictures may lie in ``images/`` itself; then all are in "train".
"""

from functools import partial
from itertools import chain
from pathlib import Path

from agmm.datasets.assembly import assembled
from agmm.datasets.beside import Label, joined, read_beside
from agmm.datasets.classes import Classes, read_classes, voc_colors
from agmm.datasets.folder import in_usual_splits, pictures_by_split
from agmm.datasets.listing import list_files
from agmm.datasets.recoding import Coding, read_coded
from agmm.datasets.records import Dataset

# The first name of each class in objectInfo150, which does not tell spaces from commas.
_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion,
base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light,
truck, tower, chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel,
pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain,
conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent,
bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle,
lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""

ADE20K_CLASSES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _NAMES.split(","))
"""The 150 classes; class k is k + 1 in the masks."""


def is_ade20k(root: Path) -> bool:
    """Say whether a folder has this layout.

    Args:
        root: The data set's folder.

    Returns:
        Whether it has ``images/``, ``annotations/``, and ``objectInfo150.csv`` or ``.txt`` or
        masks that are called ``ADE_...png``.

    Example:
        >>> is_ade20k(Path("a/folder/that/is/missing"))
        False
    """
    annotations = root / "annotations"
    if not ((root / "images").is_dir() and annotations.is_dir()):
        return False
    masks = chain(annotations.glob("ADE_*.png"), annotations.glob("*/ADE_*.png"))
    info = any((root / f"objectInfo150.{suffix}").is_file() for suffix in ("csv", "txt"))
    return info or next(masks, None) is not None


def read_ade20k(root: Path) -> Dataset:
    """List the pictures and labels of a data set in this layout; decodes none.

    Args:
        root: The data set's folder.

    Returns:
        The records of all splits, sorted by name.

    Raises:
        DataError: No pictures, some in folders and some not, two folders of one split, bad
            ``classes.txt``, or two labels of one form for one picture.
    """
    file = root / "classes.txt"
    names = ADE20K_CLASSES
    classes = Classes(names, voc_colors(len(names)), colors_given=False)
    if file.is_file():
        classes = read_classes(file)
    coding = Coding(
        {0: 255} | {k + 1: k for k in range(len(classes))},
        f"0 = other and 1..{len(classes)} = the classes",
    )
    masks = in_usual_splits(root / "annotations", list_files(root / "annotations"))
    labels = read_beside(root, classes)
    own = {
        path: Label(mask, partial(read_coded, mask, coding, "dense"))
        for path, mask in masks.items()
    }
    labels["dense"] = joined(labels["dense"], own)
    images = pictures_by_split(root / "images")
    return assembled(root, classes, images, labels, splits_known=True)
