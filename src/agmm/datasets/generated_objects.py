"""Outlines and patterns of what lies in the tide pool of ``generated.py``.

Every drawing takes the coordinates of the pixels in the object's own frame (u along it, v across,
1 = its radius) and returns how far inside the outline they are (above 0; its slope may be
anything) and how much of the object's second colour they have (0 to 1).
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float32
from PIL import Image

Plane = Float32[np.ndarray, "H W"]
Drawing = tuple[Plane, Plane]


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> Plane:
    """Smooth noise: random values on a coarse grid, bicubic between them.

    Args:
        rng: Source of the values.
        size: Height and width in pixels.
        cell: Distance of the grid points in pixels.

    Returns:
        Noise (H, W) with mean 0 and variance near 1.

    Example:
        >>> smooth_noise(np.random.default_rng(0), (6, 8), cell=4.0).shape
        (6, 8)
    """
    height, width = size
    grid = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3), dtype=np.float32)
    box = (1.0, 1.0, 1.0 + width / cell, 1.0 + height / cell)
    fine = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, box)
    return np.asarray(fine) * 1.4  # interpolation between the grid points lost variance


def _leaf(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """A bent, pointed leaf with a stalk, a midrib, side veins and sometimes teeth."""
    u, v = u / 1.25, v / 1.25
    v = v - rng.uniform(-0.3, 0.3) * (u**2 - 0.3)
    teeth = rng.uniform(0, 0.05) * np.abs(np.sin(rng.uniform(12, 20) * u))
    width = rng.uniform(0.3, 0.55) * np.clip(1 - u**2, 0, None) ** rng.uniform(0.7, 1.2)
    width = width * (1 + rng.uniform(-0.3, 0.3) * u) - teeth
    stalk = np.minimum(0.05 - np.abs(v), np.minimum(1.3 - np.abs(u), u))
    veins = np.cos((u + rng.uniform(0.5, 0.9) * np.abs(v)) * rng.uniform(18, 28))
    pattern = np.where(np.abs(v) < 0.04, 1, np.clip(veins * 2 - 1, 0, 1))
    return np.maximum(width - np.abs(v), stalk), pattern


def _shell(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """A fan with ribs, or a snail's house with a spiral."""
    return _fan(u, v, rng) if rng.random() < 0.5 else _snail(u, v, rng)


def _fan(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """Ribs that spread from the hinge, growth lines across them."""
    u = u + 0.75
    r, angle = np.hypot(u, v), np.arctan2(v, u) / rng.uniform(0.75, 1.05)
    ribs = np.cos(angle * np.pi * int(rng.integers(7, 12)))
    level = np.minimum(
        1.5 - 0.35 * angle**2 + 0.04 * ribs - r, (1 - np.abs(angle)) * np.maximum(r, 0.05)
    )
    return level, 0.5 + 0.35 * ribs + 0.25 * np.sin(rng.uniform(8, 14) * r)


def _snail(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """A logarithmic spiral that opens at one side."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    growth = rng.uniform(0.16, 0.24)
    winding = np.log(np.maximum(r, 0.02)) / growth - angle
    return np.exp(0.6 * growth * (angle - np.pi)) - r, 0.5 + 0.5 * np.cos(winding)


def _stone(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """A pebble: a random smooth outline, speckled or banded."""
    v = v * rng.uniform(1, 1.6)
    level = 0.9 * _outline(np.arctan2(v, u), rng, 0.28) - np.hypot(u, v)
    if rng.random() < 0.65:
        return level, smooth_noise(rng, u.shape, 1.6) - 0.6
    waves = v + 0.15 * smooth_noise(rng, u.shape, 12.0)
    return level, np.sin(rng.uniform(4, 9) * waves) * 3 - 1.5


def _fish(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """A body with a forked tail and two fins: striped, spotted, dark-backed or scaled."""
    u, v = u / 1.2, v / 1.2
    v = v - rng.uniform(-0.2, 0.2) * np.sin(2.2 * u)
    ahead, behind = np.clip(1 - u, 0, None), np.clip(u + 0.9, 0, None)
    body = rng.uniform(0.3, 0.46) * ahead**0.6 * behind / 1.2
    back_fin = rng.uniform(0.08, 0.2) * np.clip(1 - ((u + 0.05) / 0.42) ** 2, 0, 1)
    belly_fin = rng.uniform(0.06, 0.16) * np.clip(1 - ((u + 0.2) / 0.2) ** 2, 0, 1)
    trunk = body + np.where(v < 0, back_fin, belly_fin) - np.abs(v)
    tail = np.minimum(0.9 * (-0.55 - u) - np.abs(v), u + 0.95 + 0.5 * np.abs(v))
    marks = (
        np.sin(rng.uniform(9, 16) * u + 2 * v**2),
        3 * smooth_noise(rng, u.shape, 4.0) - 1,
        -6 * v,
        np.sin(16 * u) * np.sin(26 * v),
    )[rng.integers(4)]
    rays = 0.5 + 0.5 * np.cos(40 * np.where(u < -0.6, v, u))
    pattern = np.where((np.abs(v) > body) | (u < -0.7), rays, marks)
    eye = np.hypot(u - 0.66, v + 0.06) < 0.08
    return np.maximum(trunk, tail), np.where(eye, 1, pattern)


def _starfish(u: Plane, v: Plane, rng: np.random.Generator) -> Drawing:
    """Five (rarely six) bent arms with rows of knobs."""
    r = np.hypot(u, v)
    arms = 5 if rng.random() < 0.85 else 6
    angle = np.arctan2(v, u) + rng.uniform(-0.5, 0.5) * r
    across = np.abs((angle / (2 * np.pi) * arms) % 1 - 0.5) * 2  # 0 in the middle of an arm
    edge = rng.uniform(0.3, 0.42) + 0.7 * (1 - across) ** rng.uniform(1.3, 2.2)
    knobs = np.cos(22 * r) * np.cos(16 * across * r)
    return edge * _outline(angle, rng, 0.08) - r, knobs * 1.5 - 0.3


def _outline(angle: Plane, rng: np.random.Generator, rough: float) -> Plane:
    """A random smooth closed curve: its radius at every angle, around 1."""
    radius = np.ones_like(angle)
    for wave in range(2, 7):
        height, phase = rng.normal(0, rough / wave), rng.uniform(0, 2 * np.pi)
        radius += height * np.cos(wave * angle + phase)
    return radius


DRAWINGS: Mapping[str, Callable[[Plane, Plane, np.random.Generator], Drawing]] = {
    "leaf": _leaf,
    "shell": _shell,
    "stone": _stone,
    "fish": _fish,
    "starfish": _starfish,
}
