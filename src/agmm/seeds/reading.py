"""Reading seeds: the ones that a run has made, and the ones of another tool."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import interpolate

from agmm.config import CamConfig
from agmm.datasets.classes import Classes
from agmm.datasets.images import image_size
from agmm.datasets.masks import read_index_mask
from agmm.errors import DataError
from agmm.shapes import MaskArray

SEED_SUFFIXES = (".png", ".npy", ".npz")
"""What seeds from another tool may be: index masks, or maps of one of two kinds."""

_REMEDY = "Export the maps again as numbers from 0 to 1, or give index PNGs."


def find_seeds(folders: Sequence[Path], name: str) -> tuple[Path, ...]:
    """Find the files with the seeds of a picture, made with any tool.

    Args:
        folders: The folders of seeds, at least one.
        name: The record's name; folders as "a/b".

    Returns:
        ``NAME.png``, ``.npy`` or ``.npz`` of each folder that has one; at least one in all.

    Raises:
        DataError: There is none, or more than one in a folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a.b.npy").touch()
        >>> [path.name for path in find_seeds([folder], "a.b")]
        ['a.b.npy']
    """
    result: list[Path] = []
    for folder in folders:
        paths = [folder / f"{name}{suffix}" for suffix in SEED_SUFFIXES]
        found = [path for path in paths if path.is_file()]
        if len(found) > 1:
            raise DataError(
                f"{found[0]} and {found[1]}: two files of seeds for the picture {name!r}. Remove"
                " one."
            )
        result += found
    if not result:
        raise DataError(
            f"{', '.join(map(str, folders))}: there are no seeds for the picture {name!r}; looked"
            f" for {', '.join(f'{name}{suffix}' for suffix in SEED_SUFFIXES)}. Add one of them."
        )
    return tuple(result)


def read_seeds(path: Path, image: Path, classes: Classes, cam: CamConfig) -> MaskArray:
    """Read the seeds of a picture from an index PNG, or make them from activation maps.

    ``.npy`` holds one map for each class, (K, h, w); ``.npz`` holds ``maps`` (n, h, w) and
    ``classes`` (n,), the index of each. Maps are floats from 0 to 1 at any resolution; they are
    resized to the picture and go through `agmm.seeds.cam.cam_seeds`. A map of the background is
    not used: background is where all other maps are low. A class of a ``.npy`` whose map is
    nowhere above 0 counts as not in the picture; one of a ``.npz`` as there, but not found.

    Args:
        path: The file; its suffix says what it is.
        image: The picture.
        classes: The data set's classes.
        cam: Thresholds for maps.

    Returns:
        (H, W) of the picture, uint8, class index or 255 = unlabelled.

    Raises:
        DataError: The file is missing, damaged, of another size, or has a value that cannot be.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (2, 1)).save(folder / "a.png")
        >>> np.save(folder / "a.npy", np.array([[[0.0, 0.0]], [[0.9, 0.3]]]))
        >>> classes = Classes(("background", "cat"), ((0, 0, 0), (1, 2, 3)))
        >>> read_seeds(folder / "a.npy", folder / "a.png", classes, CamConfig()).tolist()
        [[1, 255]]
    """
    size = image_size(image)
    if path.suffix != ".png":
        return _from_maps(path, size, classes, cam)
    mask = read_index_mask(path, classes)
    if mask.shape != size:
        raise DataError(
            f"{path}: has {mask.shape[1]}x{mask.shape[0]} pixels (width x height), but its picture"
            f" {image} has {size[1]}x{size[0]}. Make the seeds at the picture's size."
        )
    return mask


def read_maps(
    path: Path, size: tuple[int, int], classes: Classes
) -> tuple[Float32[Tensor, "n H W"], list[int]]:
    """Read activation maps at the size of their picture; see `read_seeds` for the files.

    Args:
        path: The file, npy or npz.
        size: (H, W) of the picture in pixels.
        classes: The data set's classes.

    Returns:
        Maps from 0 to 1, without the background's and, of an npy, those that are nowhere above 0;
        and the class of each.

    Raises:
        DataError: The file is missing, damaged, or has a value that cannot be.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, maps=np.array([[[0.5]]]), classes=np.array([1]))
        >>> maps, named = read_maps(path, (1, 2), Classes(("cat", "dog"), ((0, 0, 0), (1, 2, 3))))
        >>> maps.tolist(), named
        ([[[0.5, 0.5]]], [1])
    """
    small, labels = _checked_maps(path, len(classes))
    # An npy has a map for every class of the data set, also for those that are not there.
    there = [path.suffix != ".npy" or bool(plane.any()) for plane in small]
    kept = [row for row, k in enumerate(labels) if k != classes.background and there[row]]
    if not kept:
        return torch.zeros(0, *size), []
    maps = interpolate(torch.from_numpy(small[kept])[None], size, mode="bilinear", antialias=True)
    return maps[0].clamp(0, 1), [labels[row] for row in kept]


def _from_maps(path: Path, size: tuple[int, int], classes: Classes, cam: CamConfig) -> MaskArray:
    from agmm.seeds.cam import cam_seeds  # builds on torchvision: seconds that a PNG does not need

    maps, labels = read_maps(path, size, classes)
    return cam_seeds(
        maps,
        labels,
        classes.background,
        foreground=cam.foreground,
        background_below=cam.background,
        margin=cam.margin,
    )


def _checked_maps(path: Path, num_classes: int) -> tuple[Float32[np.ndarray, "n h w"], list[int]]:
    # Opened here, as NumPy would leave a damaged npz open.
    with _readable(path), path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            maps, labels = content, np.arange(num_classes)
        else:
            with content:
                maps, labels = _array(content["maps"]), _array(content["classes"])
    if maps.ndim != 3 or maps.dtype.kind != "f" or 0 in maps.shape[1:]:
        raise DataError(
            f"{path}: expected maps of floats of shape (n, h, w), got {maps.dtype} of shape"
            f" {maps.shape}. {_REMEDY}"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(maps):
        raise DataError(
            f"{path}: has {len(maps)} maps for {labels.dtype} classes of shape {labels.shape}."
            f" Give one map for each of the {num_classes} classes as npy, or maps with the"
            " indices of their classes as npz."
        )
    _check_labels(path, labels, num_classes)
    # The negation catches NaN too.
    wrong = ~((maps >= 0) & (maps <= 1))
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        raise DataError(
            f"{path}: the maps must be from 0 to 1, but the value at {place} is {maps[place]}"
            f" ({wrong.sum()} such values). {_REMEDY}"
        )
    return maps.astype(np.float32), labels.tolist()


def _check_labels(path: Path, labels: np.ndarray, num_classes: int) -> None:
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if unknown.size:
        raise DataError(
            f"{path}: has a map of class {unknown[0]}, but there are {num_classes} classes"
            f" (0..{num_classes - 1}). Correct the indices."
        )
    found, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"{path}: has {counts.max()} maps of class {found[counts.argmax()]}. Join them."
        )


def _array(member: np.ndarray | bytes) -> np.ndarray:
    if isinstance(member, bytes):  # what NumPy gives of a member that is no npy
        raise TypeError("a member of the npz is no array")
    return member


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what NumPy raises on missing, damaged and dangerous files into a `DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file. Correct the path.") from error
    except KeyError as error:
        raise DataError(
            f"{path}: an npz must hold the arrays 'maps' and 'classes' ({error}). {_REMEDY}"
        ) from error
    # Whatever NumPy meets when it evaluates a header and zipfile when it unpacks: of zlib, lzma,
    # tokenize, ..., and MemoryError, as a header of a few bytes may claim any size.
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as arrays of numbers ({error}). {_REMEDY}"
        ) from error
