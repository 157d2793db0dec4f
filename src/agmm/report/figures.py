"""Pictures of masks, seeds and posteriors, side by side on a sheet with captions and a legend."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from agmm.errors import InputError
from agmm.files import written_atomically
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

Picture = UInt8[np.ndarray, "_ _ 3"]
"""As ImageArray, but pictures of several sizes may meet in one function."""

SizedMask = UInt8[np.ndarray, "_ _"]
"""As MaskArray, where the function itself compares the size with the picture's."""

UNLABELLED_COLOR: Color = (232, 232, 232)
"""Light grey, which no class of the common palettes has."""

_PAPER: Color = (255, 255, 255)
_INK: Color = (38, 38, 38)
_MARGIN = 8
_FONT_SIZE = 15
_LINE_HEIGHT = 22
_WIDER_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts of Linux, macOS and Windows with the letters of more languages."""
_LARGEST_CLICK = 3  # pixels: a click may come as a small square, a stroke is longer


def colorize(mask: MaskArray, colors: Sequence[Color]) -> ImageArray:
    """Paint every class in its colour, and unlabelled pixels light grey.

    Args:
        mask: Class of every pixel, "H W"; 255 = unlabelled.
        colors: RGB of every class, 0 to 255.

    Returns:
        The painted mask, "H W 3".

    Raises:
        InputError: A class without a colour.

    Example:
        >>> colorize(np.array([[0, 255]], np.uint8), [(128, 0, 0)]).tolist()
        [[[128, 0, 0], [232, 232, 232]]]
    """
    _check_classes(mask, colors)
    table = np.full((IGNORE_INDEX + 1, 3), UNLABELLED_COLOR, np.uint8)
    table[: len(colors)] = np.array(colors, np.uint8).reshape(-1, 3)
    table[IGNORE_INDEX] = UNLABELLED_COLOR
    painted: ImageArray = table[mask]
    return painted


def overlay(
    image: ImageArray,
    mask: SizedMask,
    colors: Sequence[Color],
    alpha: float | Float[np.ndarray, "H W"] = 0.6,
) -> ImageArray:
    """Lay the colours of a mask over a picture: (1 - alpha) · image + alpha · colour.

    Args:
        image: RGB, 0 to 255, "H W 3".
        mask: Class of every pixel, "H W"; where it is 255 the picture stays as it is.
        colors: RGB of every class, 0 to 255.
        alpha: Strength of the colours in [0, 1]; one for every pixel shows a confidence.

    Returns:
        The covered picture, "H W 3".

    Raises:
        InputError: The mask has another size than the picture, a class without a colour, or
            an alpha outside [0, 1].

    Example:
        >>> image = np.zeros((1, 2, 3), np.uint8)
        >>> overlay(image, np.array([[0, 255]], np.uint8), [(200, 100, 0)], alpha=0.5).tolist()
        [[[100, 50, 0], [0, 0, 0]]]
    """
    _check_size(image, mask)
    strength = np.where(mask == IGNORE_INDEX, 0.0, alpha)[..., None]
    if not ((strength >= 0) & (strength <= 1)).all():
        raise InputError(
            f"alpha: expected values from 0 to 1, got {strength.min()} to {strength.max()}; "
            "divide by the largest possible confidence"
        )
    exact = (1 - strength) * image + strength * colorize(mask, colors)
    mixed: ImageArray = exact.round().astype(np.uint8)
    return mixed


def draw_seeds(image: ImageArray, seeds: SizedMask, colors: Sequence[Color]) -> ImageArray:
    """Draw seeds so that they can be seen: clicks as outlined discs, strokes as they are.

    A click is a patch of connected seeds that fits into 3 x 3 pixels. Its disc has a radius of
    1/80 of the height of the picture, and at least 2 pixels.

    Args:
        image: RGB, 0 to 255, "H W 3".
        seeds: Class of every seed, "H W"; 255 = no seed.
        colors: RGB of every class, 0 to 255.

    Returns:
        The picture with the seeds on it, "H W 3".

    Raises:
        InputError: The seeds have another size than the picture, or a class without a colour.

    Example:
        >>> image, seeds = np.zeros((9, 9, 3), np.uint8), np.full((9, 9), 255, np.uint8)
        >>> seeds[4, 4] = 0
        >>> draw_seeds(image, seeds, [(200, 100, 0)])[4, 3].tolist()
        [200, 100, 0]
    """
    _check_size(image, seeds)
    canvas = Image.fromarray(overlay(image, seeds, colors, alpha=1.0))
    draw = ImageDraw.Draw(canvas)
    radius = max(2, round(image.shape[0] / 80))
    clicks = [(int(x), int(y)) for y, x in np.argwhere(_clicks(seeds))]
    # A white ring shows on dark ground and a dark one round it on light ground. All rings come
    # first, so that none covers the colour of a neighbour.
    for margin, ring in ((2, _INK), (1, _PAPER)):
        for x, y in clicks:
            draw.circle((x, y), radius + margin, fill=ring)
    for x, y in clicks:
        draw.circle((x, y), radius, fill=tuple(colors[seeds[y, x]]))
    return np.array(canvas)


def panel(columns: Sequence[tuple[str, Picture]], *, height: int = 300) -> Picture:
    """Set pictures side by side, each with its caption below.

    Args:
        columns: Caption and RGB picture, "H W 3", from left to right, at least one; the pictures
            may differ in size. Without any text there is no line for captions.
        height: Height in pixels at which every picture is shown; the width follows.

    Returns:
        The row on white paper, "H W 3".

    Raises:
        InputError: No columns.

    Example:
        >>> black = np.zeros((30, 40, 3), np.uint8)
        >>> panel([("image", black), ("truth", black)], height=60).shape
        (98, 184, 3)
    """
    if not columns:
        raise InputError("columns: expected at least one caption and picture, got none; add one")
    font = ImageFont.load_default(_FONT_SIZE)
    captions = [caption for caption, _ in columns]
    pictures = [_scaled_to(height, image) for _, image in columns]
    widths = [
        max(picture.width, int(np.ceil(font.getlength(caption))))
        for caption, picture in zip(captions, pictures, strict=True)
    ]
    caption_height = _LINE_HEIGHT if any(captions) else 0
    size = (sum(widths) + _MARGIN * (len(columns) + 1), height + 2 * _MARGIN + caption_height)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    left = _MARGIN
    for caption, picture, width in zip(captions, pictures, widths, strict=True):
        canvas.paste(picture, (left + (width - picture.width) // 2, _MARGIN))
        middle = (left + width / 2, height + _MARGIN + caption_height / 2 + 2)
        draw.text(middle, caption, fill=_INK, font=font, anchor="mm")
        left += width + _MARGIN
    return np.array(canvas)


def legend(names: Sequence[str], colors: Sequence[Color], *, width: int) -> Picture:
    """Name the classes beside their colours, in as many lines as they need.

    Args:
        names: Name of every class.
        colors: RGB of every class, 0 to 255, as many as names.
        width: Width of the paper in pixels; that of the panels which it explains.

    Returns:
        The legend on white paper, "H W 3"; wider than asked only where a name needs it.

    Raises:
        InputError: Not one colour per name.

    Example:
        >>> legend(["sky", "road"], [(128, 128, 128), (128, 64, 128)], width=200).shape
        (38, 200, 3)
    """
    if len(names) != len(colors):
        raise InputError(
            f"colors: expected one for each of the {len(names)} names, got {len(colors)}; "
            "take both from the classes of one data set"
        )
    font = _font_for(names)
    swatch = 14
    spots: list[tuple[int, int]] = []
    left, top, right = _MARGIN, _MARGIN, width
    for name in names:
        needed = swatch + 6 + int(np.ceil(font.getlength(name)))
        if left > _MARGIN and left + needed + _MARGIN > width:
            left, top = _MARGIN, top + _LINE_HEIGHT
        spots.append((left, top))
        right = max(right, left + needed + _MARGIN)
        left += needed + 18
    canvas = Image.new("RGB", (right, top + _LINE_HEIGHT + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for name, color, (x, y) in zip(names, colors, spots, strict=True):
        box = (x, y + 4, x + swatch - 1, y + 3 + swatch)
        draw.rectangle(box, fill=tuple(color), outline=_INK)
        draw.text((x + swatch + 6, y + _LINE_HEIGHT / 2), name, fill=_INK, font=font, anchor="lm")
    return np.array(canvas)


def _font_for(words: Iterable[str]) -> Font:
    """Pillow's own font; it has the letters of English, so for others one that the system has."""
    own = ImageFont.load_default(_FONT_SIZE)
    if all(word.isascii() for word in words):
        return own
    for name in _WIDER_FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, _FONT_SIZE)
    return own


def sheet(rows: Sequence[Picture]) -> Picture:
    """Set panels, and a legend, below one another.

    Args:
        rows: RGB pictures, "H W 3", from top to bottom, at least one; narrower ones are filled
            up with white on their right.

    Returns:
        The sheet, "H W 3".

    Raises:
        InputError: No rows.

    Example:
        >>> black = np.zeros((10, 40, 3), np.uint8)
        >>> sheet([black, black[:, :20]]).shape
        (20, 40, 3)
    """
    if not rows:
        raise InputError("rows: expected at least one panel, got none; add one")
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [
            np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=max(_PAPER))
            for row in rows
        ]
    )


def write_png(path: Path, image: Picture) -> None:
    """Write a picture as PNG; a reader never meets half of it.

    Args:
        path: The file, which is replaced if it is there; its folder is made.
        image: RGB, 0 to 255, "H W 3".

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "overlays" / "black.png"
        >>> write_png(path, np.zeros((2, 3, 3), np.uint8))
        >>> path.is_file()
        True
    """
    with written_atomically(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def _clicks(seeds: MaskArray) -> Bool[np.ndarray, "H W"]:
    from skimage.measure import label, regionprops

    clicks = np.zeros(seeds.shape, bool)
    patches = label(seeds != IGNORE_INDEX, connectivity=2)  # type: ignore[no-untyped-call]
    for patch in regionprops(patches):  # type: ignore[no-untyped-call]
        if max(patch.image.shape) <= _LARGEST_CLICK:
            clicks[patch.slice] |= patch.image
    return clicks


def _scaled_to(height: int, image: Picture) -> Image.Image:
    picture = Image.fromarray(image)
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _check_size(image: Picture, mask: SizedMask) -> None:
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"mask: expected the size of the image, {image.shape[:2]}, got {mask.shape}; "
            "resize it with nearest neighbours"
        )


def _check_classes(mask: MaskArray, colors: Sequence[Color]) -> None:
    classes = mask[mask != IGNORE_INDEX]
    if classes.size and classes.max() >= len(colors):
        raise InputError(
            f"mask: expected classes below {len(colors)}, the number of colors, or "
            f"{IGNORE_INDEX}, got {classes.max()}; pass one color per class"
        )
