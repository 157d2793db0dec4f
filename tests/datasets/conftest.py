"""A tiny data set in the ``folder`` layout, made anew for each test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Write a picture or a mask of 4x3 pixels below the test's folder; lists are grey rows."""

    def write(name: str, values: object = None, size: tuple[int, int] = (3, 4)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if values is None:
            values = np.full((*size, 3), 90)
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def tiny(tmp_path: Path, draw: Draw) -> Path:
    """Two pictures to train on, with clicks, and one to validate with, with a dense mask."""
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for name in ("a", "b"):
        draw(f"images/train/{name}.jpg")
        clicks = np.full((3, 4), 255)
        clicks[1, 2], clicks[2, 0] = 0, 1
        draw(f"points/{name}.png", clicks)
    draw("images/val/c.jpg")
    draw("masks/val/c.png", np.array([[0, 0, 1, 1]] * 3))
    return tmp_path
