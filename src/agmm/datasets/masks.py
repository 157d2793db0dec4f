"""Index masks on disk: PNGs whose pixels are class indices, 255 = unlabelled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from agmm.datasets.classes import VOID_COLOR, Classes, Color, voc_colors
from agmm.datasets.images import opened_image, upright
from agmm.errors import DataError, InputError
from agmm.files import written_atomically
from agmm.shapes import IGNORE_INDEX, MaskArray


def read_index_mask(path: Path, classes: Classes) -> MaskArray:
    """Read a mask: a PNG with a palette, with grey values, or with one colour per class.

    With a palette or grey values (1 to 16 bits), the value of a pixel is the class. With RGB the
    colour is looked up in ``classes.txt``, `VOID_COLOR` being 255. Pixels that are fully
    transparent are 255 in each, whatever value or colour lies below.

    Args:
        path: The PNG file.
        classes: The data set's classes.

    Returns:
        (H, W), uint8, class index 0..K-1 or 255 = unlabelled.

    Raises:
        DataError: Missing, broken, no PNG, 16 bits with an alpha channel, a value or a colour that
            is no class, or colours when ``classes.txt`` gives none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> classes = Classes(("cat", "dog"), ((0, 0, 0), (9, 9, 9)))
        >>> write_index_mask(path, np.array([[1, 255]], dtype=np.uint8), classes)
        >>> read_index_mask(path, classes).tolist()
        [[1, 255]]
    """
    values, drawn = read_pixels(path)
    if values.ndim == 2:
        return _from_values(np.where(drawn, values, IGNORE_INDEX), classes, path)
    void = np.array(VOID_COLOR, np.uint8)
    return _from_colors(np.where(drawn[..., None], values, void), classes, path)


def read_pixels(path: Path) -> tuple[np.ndarray, Bool[np.ndarray, "H W"]]:
    """Read what the pixels of a mask say, without a look at what it means.

    Args:
        path: The PNG file.

    Returns:
        The values, (H, W), integers, of a palette or grey values (1 to 16 bits), or (H, W, 3),
        uint8, of colours; and (H, W), False where a pixel is fully transparent.

    Raises:
        DataError: Missing, broken, too large, no PNG, or 16 bits with an alpha channel.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("I;16", (2, 1), 24001).save(path)
        >>> values, drawn = read_pixels(path)
        >>> values.tolist(), drawn.tolist()
        ([[24001, 24001]], [[True, True]])
    """
    with opened_image(path) as image:
        if image.format != "PNG":
            raise DataError(
                f"{path}: a mask must be PNG, but this is {image.format}. Export it again as"
                " PNG: a lossy format such as JPEG changes the classes of pixels."
            )
        depth, alpha = _depth_and_alpha(path)
        if depth == 16 and alpha:
            raise DataError(
                f"{path}: has 16 bits per channel and an alpha channel, but a mask with one must"
                " have 8. Export it with 8 bits, or without the alpha channel."
            )
        values: np.ndarray = np.asarray(upright(image))
        mode, key = image.mode, image.info.get("transparency")
    if mode in {"LA", "RGBA"}:
        return values[..., 0] if mode == "LA" else values[..., :3], values[..., -1] > 0
    if mode == "L":
        # Pillow stretches grey of 2 and 4 bits to 0..255; the class is what the file says.
        values = values // (255 // (2 ** min(depth, 8) - 1))
    return values, ~_clear(values, key, depth)


def write_index_mask(
    path: Path, mask: MaskArray, classes: Classes, *, text: Mapping[str, str] | None = None
) -> None:
    """Write a mask as a palette PNG in the colours of its classes, atomically.

    Args:
        path: The file to write, ending in ``.png``.
        mask: (H, W), uint8, class index 0..K-1 or 255 = unlabelled.
        classes: The data set's classes.
        text: Notes that the file shall carry, by keyword; a reader finds them in Pillow's
            ``image.info``.

    Raises:
        InputError: Another suffix, or an array that is no such mask.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> classes = Classes(("cat",), ((1, 2, 3),))
        >>> write_index_mask(path, np.array([[0]], dtype=np.uint8), classes)
        >>> Image.open(path).getpalette()[:3]
        [1, 2, 3]
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: masks are written as PNG. Give a name that ends in .png.")
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        raise InputError(
            f"mask must be uint8 of shape (H, W) with at least one pixel, but is {mask.dtype} of"
            f" shape {mask.shape}."
        )
    check_values(mask, classes)
    image = Image.fromarray(mask)
    image.putpalette(mask_palette(classes))
    notes = PngInfo()
    for keyword, value in (text or {}).items():
        notes.add_text(keyword, value)
    with written_atomically(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=notes)


def check_values(mask: MaskArray, classes: Classes) -> None:
    """Make sure that a mask holds classes and nothing else.

    Args:
        mask: (H, W), uint8.
        classes: The data set's classes.

    Raises:
        InputError: A value that is neither a class nor 255.
    """
    wrong = (mask >= len(classes)) & (mask != IGNORE_INDEX)
    if wrong.any():
        raise InputError(
            f"mask has the value {mask[wrong][0]}, but there are {len(classes)} classes"
            f" (0..{len(classes) - 1}; {IGNORE_INDEX} = unlabelled)."
        )


def mask_palette(classes: Classes) -> bytes:
    """Give the palette that masks are written with.

    Args:
        classes: The data set's classes.

    Returns:
        Red, green, blue of all 256 indices: the classes, then VOC's colours, then void.

    Example:
        >>> list(mask_palette(Classes(("cat",), ((1, 2, 3),)))[:3])
        [1, 2, 3]
    """
    colors = [*classes.colors, *voc_colors(IGNORE_INDEX)[len(classes) :], VOID_COLOR]
    return bytes(channel for color in colors for channel in color)


def read_palette(path: Path) -> list[int] | None:
    """Read the palette of a mask, if it has one.

    Args:
        path: The PNG file.

    Returns:
        Red, green, blue of index 0, of index 1 and so on; None for a mask without a palette.

    Raises:
        DataError: The file is missing or no picture.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("L", (1, 1)).save(path)
        >>> read_palette(path) is None
        True
    """
    with opened_image(path) as image:
        return image.getpalette() if image.mode == "P" else None


def _depth_and_alpha(path: Path) -> tuple[int, bool]:
    """Read bit depth and colour type from the header: 8 bytes of signature, 16 up to the depth."""
    with path.open("rb") as file:
        depth, color_type = file.read(26)[24:]
    return depth, color_type in {4, 6}


def _clear(
    values: np.ndarray, key: int | bytes | tuple[int, ...] | None, depth: int
) -> Bool[np.ndarray, "H W"]:
    """The pixels that the chunk tRNS makes transparent: one value, or one opacity an index."""
    if key is None:
        return np.zeros(values.shape[:2], np.bool_)
    clear: np.ndarray
    if isinstance(key, bytes):
        clear = np.isin(values, np.flatnonzero(np.frombuffer(key, np.uint8) == 0))
    elif isinstance(key, tuple):
        # Of colours of 16 bits Pillow gives the upper half, but not of this one.
        clear = (values == np.array(key) >> (depth - 8)).all(axis=2)
    else:
        clear = np.equal(values, bool(key) if values.dtype == np.bool_ else key)
    return clear


def _from_values(
    values: Integer[np.ndarray, "H W"] | np.ndarray, classes: Classes, path: Path
) -> MaskArray:
    known = (values < len(classes)) | (values == IGNORE_INDEX)
    if not known.all():
        raise DataError(
            f"{path}: {_listed(values[~known], values)}, but there are {len(classes)} classes"
            f" (0..{len(classes) - 1}; {IGNORE_INDEX} = unlabelled). Add the missing classes to"
            f" classes.txt, or repaint these pixels as {IGNORE_INDEX}."
        )
    return values.astype(np.uint8)


def _listed(wrong: np.ndarray, values: np.ndarray) -> str:
    """Describe the first wrong values: how many pixels, and where."""
    found, counts = np.unique(wrong, return_counts=True)
    parts = []
    for value, count in zip(found[:5].tolist(), counts[:5].tolist(), strict=True):
        y, x = np.argwhere(values == value)[0].tolist()
        parts.append(f"the value {value} on {count} pixels, first at x={x}, y={y}")
    more = f" and {len(found) - 5} more values" if len(found) > 5 else ""
    return "; ".join(parts) + more


def _from_colors(values: UInt8[np.ndarray, "H W 3"], classes: Classes, path: Path) -> MaskArray:
    if not classes.colors_given:
        raise DataError(
            f"{path}: a mask of colours, but the classes have none. Write the colour behind each"
            " name in classes.txt, as in 'road 128 64 128', or save the mask as grey values or"
            " with a palette."
        )
    codes = _code(values)
    known = _code(np.array([*classes.colors, VOID_COLOR]))
    order = np.argsort(known)
    place = order[np.searchsorted(known, codes, sorter=order).clip(max=len(classes))]
    unknown = known[place] != codes
    if unknown.any():
        y, x = np.argwhere(unknown)[0].tolist()
        color: Color = tuple(values[y, x].tolist())
        raise DataError(
            f"{path}: the colour {color} is that of no class; first at x={x}, y={y}, on"
            f" {(codes == codes[y, x]).sum()} pixels. Add it to classes.txt, or repaint these"
            f" pixels; {VOID_COLOR} is unlabelled."
        )
    return np.where(place == len(classes), IGNORE_INDEX, place).astype(np.uint8)


def _code(values: np.ndarray) -> np.ndarray:
    """One number for red, green and blue."""
    code: np.ndarray = values.astype(np.int64) @ np.array([65536, 256, 1])
    return code
