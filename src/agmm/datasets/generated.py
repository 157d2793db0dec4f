"""The pictures of ``agmm demo``: a tide pool, drawn from a seed, with a perfect mask.

Leaves, shells, stones, fish and starfish lie over one another on sand, moss, gravel or mud.
Their colours overlap between the classes and with the ground; what tells them apart is shape and
pattern. Light, shadow, blur and noise come on top.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from agmm.datasets.classes import Classes
from agmm.datasets.generated_objects import DRAWINGS, Plane, smooth_noise
from agmm.datasets.writing import write_classes, write_label
from agmm.files import written_atomically
from agmm.labels.annotations import DenseMask
from agmm.labels.pieces import without_crumbs
from agmm.labels.simulate import simulate_points, simulate_scribbles
from agmm.shapes import ImageArray

Colors = Float32[np.ndarray, "H W 3"]

CLASSES = Classes(
    names=("background", "leaf", "shell", "stone", "fish", "starfish"),
    colors=(
        (0, 0, 0),
        (86, 180, 60),
        (240, 200, 150),
        (130, 130, 150),
        (60, 130, 220),
        (225, 80, 60),
    ),
)

# RGB in 0..1. The first colour of a class is its usual one; every colour occurs in several.
SAND, CREAM, GREY = (0.76, 0.66, 0.48), (0.9, 0.82, 0.72), (0.56, 0.55, 0.53)
SLATE, BLUE, MOSS = (0.34, 0.37, 0.42), (0.36, 0.52, 0.66), (0.3, 0.46, 0.18)
BROWN, RUST, ORANGE = (0.42, 0.31, 0.2), (0.6, 0.33, 0.2), (0.86, 0.46, 0.2)
PINK, OLIVE, PURPLE = (0.78, 0.55, 0.5), (0.5, 0.5, 0.24), (0.46, 0.32, 0.42)
PALETTES: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "leaf": (MOSS, OLIVE, BROWN, RUST, ORANGE, PURPLE),
    "shell": (CREAM, SAND, PINK, BROWN, ORANGE, GREY),
    "stone": (GREY, SLATE, BROWN, SAND, PINK, OLIVE, BLUE),
    "fish": (BLUE, SLATE, ORANGE, OLIVE, GREY, CREAM),
    "starfish": (ORANGE, RUST, PURPLE, SAND, PINK, BLUE),
}
USUAL = 0.85
"""How many objects of a class have its usual colour."""

GROUNDS = ((SAND, BROWN), (OLIVE, MOSS), (BROWN, RUST), (SAND, GREY), (SLATE, BROWN))


def generate_picture(
    rng: np.random.Generator, size: tuple[int, int] = (128, 160)
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Draw one picture and its dense mask.

    Args:
        rng: Source of everything in the picture.
        size: Height and width in pixels.

    Returns:
        The picture (H, W, 3), RGB, and the mask (H, W) with the indices of ``CLASSES``.

    Example:
        >>> image, mask = generate_picture(np.random.default_rng(0), (64, 80))
        >>> image.shape, mask.shape
        ((64, 80, 3), (64, 80))
    """
    height, width = size
    colors = _ground(rng, size)
    mask = np.zeros(size, dtype=np.uint8)
    light = rng.uniform(0, 2 * math.pi)
    for _ in range(rng.integers(4, 9)):
        label = int(rng.integers(1, len(CLASSES.names)))
        center = rng.uniform(0, height), rng.uniform(0, width)
        radius = min(size) * float(np.exp(rng.uniform(np.log(0.15), np.log(0.38))))
        inside = _place(colors, rng, label=label, center=center, radius=radius, light=light)
        mask[inside] = label
    return _photograph(colors, rng, light), mask


def _place(
    colors: Colors,
    rng: np.random.Generator,
    *,
    label: int,
    center: tuple[float, float],
    radius: float,
    light: float,
) -> Bool[np.ndarray, "H W"]:
    """Draw one object and its shadow into ``colors``; return the pixels that it covers."""
    from scipy.ndimage import gaussian_filter, shift

    size, name = colors.shape[:2], CLASSES.names[label]
    y = (np.arange(size[0], dtype=np.float32)[:, None] - center[0]) / radius
    x = (np.arange(size[1], dtype=np.float32) - center[1]) / radius
    turn = rng.uniform(0, 2 * math.pi)
    u = math.cos(turn) * x + math.sin(turn) * y
    v = math.cos(turn) * y - math.sin(turn) * x
    level, pattern = DRAWINGS[name](u, v, rng)
    # Division by the slope turns the level into a distance in pixels: edges one pixel soft.
    down, right = np.gradient(level)
    slope = np.hypot(down, right) + 1e-4
    alpha = np.clip(level / slope + 0.5, 0, 1)

    shadow = shift(alpha, 0.09 * radius * np.array([math.sin(light), math.cos(light)]), order=1)
    colors *= 1 - 0.5 * gaussian_filter(shadow, 0.06 * radius + 0.5)[..., None]
    palette = PALETTES[name]
    first = _color(rng, palette[:1] if rng.random() < USUAL else palette[1:])
    second = first * rng.uniform(0.35, 0.75) if rng.random() < 0.6 else 1 - (1 - first) * 0.5
    mix = np.clip(np.clip(pattern, 0, 1) + 0.12 * smooth_noise(rng, size, 3.0), 0, 1)[..., None]
    skin = first + mix * (second - first)
    # The object bulges: brighter where its surface turns to the light.
    bulge = np.sqrt(np.clip(level / max(float(level.max()), 1e-3), 0, 1))
    down, right = np.gradient(gaussian_filter(bulge, 1.0 + 0.03 * radius))
    facing = -(math.sin(light) * down + math.cos(light) * right) * radius
    skin = skin * (1 + 0.22 * np.tanh(facing) + 0.07 * smooth_noise(rng, size, 8.0))[..., None]
    colors += alpha[..., None] * (skin - colors)
    covered: np.ndarray = alpha > 0.5
    return covered


def _color(
    rng: np.random.Generator, palette: tuple[tuple[float, float, float], ...]
) -> Float32[np.ndarray, " 3"]:
    """One colour of the palette, a little off."""
    base = np.array(palette[rng.integers(len(palette))]) + rng.normal(0, 0.03, 3)
    return np.clip(base * rng.uniform(0.8, 1.15), 0.03, 1).astype(np.float32)


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> Colors:
    """Two kinds of ground that run into each other."""
    parts = [_one_ground(rng, size) for _ in range(2)]
    where = 1 / (1 + np.exp(-6 * (smooth_noise(rng, size, min(size) / 1.5) + rng.uniform(-1, 1))))
    colors: np.ndarray = parts[0] + where[..., None] * (parts[1] - parts[0])
    return colors.astype(np.float32)


def _one_ground(rng: np.random.Generator, size: tuple[int, int]) -> Colors:
    """Sand with ripples, moss, gravel or mud: two colours and a pattern."""
    palette = GROUNDS[rng.integers(len(GROUNDS))]
    first, second = _color(rng, palette), _color(rng, palette)
    rows, cols = np.indices(size, dtype=np.float32)
    turn, wave = rng.uniform(0, math.pi), rng.uniform(5, 12)
    along = math.cos(turn) * rows + math.sin(turn) * cols
    pattern = (
        lambda: 0.5 + 0.4 * np.sin(along / wave * math.pi + 1.5 * smooth_noise(rng, size, 20.0)),
        lambda: 0.5 + 0.4 * smooth_noise(rng, size, 2.5) + 0.3 * smooth_noise(rng, size, 10.0),
        lambda: _pebbles(rng, size),
        lambda: 0.5 + 0.5 * np.tanh(2 * smooth_noise(rng, size, 14.0)),
    )[rng.integers(4)]()
    grain = 0.09 * smooth_noise(rng, size, 1.3) + 0.08 * smooth_noise(rng, size, 30.0)
    pattern = np.clip(pattern, 0, 1)[..., None]
    colors: np.ndarray = (first + pattern * (second - first)) * (0.8 + grain[..., None])
    return colors


def _pebbles(rng: np.random.Generator, size: tuple[int, int]) -> Plane:
    """Cells of random tone with dark joints between them."""
    from scipy.spatial import cKDTree

    count = int(size[0] * size[1] / rng.uniform(30, 130))
    tree = cKDTree(rng.uniform(0, 1, (count, 2)) * size)
    (near, far), (cell, _) = (
        np.moveaxis(found, -1, 0).reshape(2, *size)
        for found in tree.query(np.indices(size).reshape(2, -1).T, k=2)
    )
    joint = np.clip((far - near) / 2.5, 0, 1)
    tones: np.ndarray = rng.uniform(-0.2, 1.2, count)[cell] * joint - 0.6 * (1 - joint)
    return tones.astype(np.float32)


def _photograph(colors: Colors, rng: np.random.Generator, light: float) -> ImageArray:
    """Light falling off over the picture, glints of the water, a cast, blur and noise."""
    from scipy.ndimage import gaussian_filter

    size = colors.shape[:2]
    rows, cols = np.indices(size, dtype=np.float32)
    rows, cols = rows / size[0] - 0.5, cols / size[1] - 0.5
    fall = -rng.uniform(0, 0.5) * (math.sin(light) * rows + math.cos(light) * cols)
    corners = rng.uniform(0, 0.4) * (rows**2 + cols**2)
    glints = rng.uniform(0, 0.18) * np.exp(-6 * np.abs(smooth_noise(rng, size, min(size) / 8)))
    cast = rng.normal(1, 0.05, 3) * rng.uniform(0.8, 1.15)
    seen = colors * (1 + fall - corners + glints)[..., None] * cast
    seen = gaussian_filter(seen, (*[rng.uniform(0.3, 0.8)] * 2, 0))
    noise = rng.normal(0, rng.uniform(0.01, 0.035), seen.shape)
    image: np.ndarray = np.round(255 * np.clip(seen + noise, 0, 1))
    return image.astype(np.uint8)


def write_generated_dataset(
    root: Path, *, num_train: int, num_val: int, size: tuple[int, int] = (128, 160), seed: int = 0
) -> None:
    """Write pictures, dense masks, strokes and clicks in the ``folder`` layout.

    Every picture has its own random generator, so that a larger set begins with the smaller one.
    ``classes.txt`` comes last: a folder without it is not finished.

    Args:
        root: Folder to write to; made if it is absent. Files of the same name are replaced.
        num_train: Number of pictures in ``images/train``; these also get strokes and clicks.
        num_val: Number of pictures in ``images/val``.
        size: Height and width in pixels.
        seed: What is drawn.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> write_generated_dataset(root, num_train=1, num_val=1, size=(48, 64))
        >>> sorted(str(path.relative_to(root)) for path in root.glob("images/*/*"))
        ['images/train/train_0000.png', 'images/val/val_0000.png']
    """
    for part, (split, count) in enumerate((("train", num_train), ("val", num_val))):
        for index in range(count):
            rng = np.random.default_rng((seed, part, index))
            image, mask = generate_picture(rng, size)
            name = f"{split}/{split}_{index:04d}"
            with written_atomically(root / "images" / f"{name}.png") as temporary:
                Image.fromarray(image).save(temporary)
            write_label(root, name, DenseMask(mask), size, CLASSES)
            if split == "train":
                seen = without_crumbs(mask, min_pixels=32)
                for label in (simulate_scribbles(seen, rng), simulate_points(seen, rng)):
                    write_label(root, name, label, size, CLASSES)
    write_classes(root / "classes.txt", CLASSES)
