"""Fixtures for all tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from agmm.config import TrainConfig
from agmm.datasets.classes import Classes
from agmm.datasets.masks import write_index_mask

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with as many threads each as there are cores would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands that tests start
    torch.set_num_threads(1)

# On a busy machine an example may take long, which is no fault of what is tested.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

SHARED = Path(__file__).parents[1].parent / "shared"
TINY = Classes(("sky", "wall", "road"), ((20, 90, 240), (230, 60, 30), (70, 200, 90)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and weights beside the project; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real data and weights are not at {SHARED}")
    return SHARED


@pytest.fixture
def without_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user meets: the types of arguments are checked in the tests only."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 4 + 2 pictures of 48x64: three stripes in the colours of their classes.

    The training pictures also have strokes and clicks, at least 6 pixels from the next stripe.
    Nobody may write to it.
    """
    root = tmp_path_factory.mktemp("tiny") / "data"
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "train/c", "train/d", "val/e", "val/f"):
        split, stem = name.split("/")
        order = rng.permutation(3).astype(np.uint8)
        columns = np.repeat(order, np.diff([0, rng.integers(18, 23), rng.integers(40, 45), 64]))
        mask = np.repeat(columns[None], 48, axis=0)
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(TINY.colors, np.uint8)[mask]).save(root / f"images/{name}.png")
        write_index_mask(root / f"masks/{name}.png", mask, TINY)
        if split == "train":
            strokes, clicks = np.full((2, 48, 64), 255, np.uint8)
            strokes[8:40, [8, 9, 31, 32, 54, 55]] = mask[8:40, [8, 9, 31, 32, 54, 55]]
            clicks[24, [10, 30, 52]] = mask[24, [10, 30, 52]]
            write_index_mask(root / f"scribbles/{stem}.png", strokes, TINY)
            write_index_mask(root / f"points/{stem}.png", clicks, TINY)
    colors = ("#{:02x}{:02x}{:02x}".format(*color) for color in TINY.colors)
    lines = (f"{name} {color}\n" for name, color in zip(TINY.names, colors, strict=True))
    (root / "classes.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="session")
def boxed_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 4 + 2 pictures of 48x64: on grey noise a red or a blue rectangle, or both.

    Training pictures have tags and boxes, and like the others dense masks. Nobody may write to it.
    """
    root = tmp_path_factory.mktemp("boxed") / "data"
    classes = Classes(("background", "red", "blue"), ((0, 0, 0), (220, 40, 40), (40, 60, 220)))
    rng = np.random.default_rng(0)
    tags, boxes = ["image,tags"], ["image,class,xmin,ymin,xmax,ymax"]
    for name, shown in {"a": "1", "b": "2", "c": "12", "d": "1", "e": "2", "f": "12"}.items():
        split = "val" if name in "ef" else "train"
        mask = np.zeros((48, 64), np.uint8)
        for k, left in zip(map(int, shown), (6, 36), strict=False):
            top, width, height = rng.integers(6, 14), rng.integers(14, 20), rng.integers(16, 24)
            mask[top : top + height, left : left + width] = k
            if split == "train":
                corners = f"{left - 2},{top - 2},{left + width + 2},{top + height + 2}"
                boxes.append(f"{name},{classes.names[k]},{corners}")
        if split == "train":
            tags.append(f"{name},{' '.join(classes.names[int(k)] for k in shown)}")
        colors = np.array(((128, 128, 128), *classes.colors[1:]))[mask]
        image = (colors + rng.integers(-12, 13, (*mask.shape, 1))).clip(0, 255).astype(np.uint8)
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / f"images/{split}/{name}.png")
        write_index_mask(root / f"masks/{split}/{name}.png", mask, classes)
    (root / "tags.csv").write_text("\n".join(tags) + "\n")
    (root / "boxes.csv").write_text("\n".join(boxes) + "\n")
    (root / "classes.txt").write_text("background #000000\nred #dc2828\nblue #283cdc\n")
    return root


@pytest.fixture(scope="session")
def tiny_config(tiny_data: Path) -> Callable[..., TrainConfig]:
    """Give the config of a training of two steps on ``tiny_data``, in a second on one core."""

    def config(out: Path, **changes: Any) -> TrainConfig:
        options: dict[str, Any] = {
            "data": tiny_data,
            "labels": ("scribbles",),
            "complete_labels": True,
            "encoder": "mobilenetv3_small_050",
            "encoder_weights": "none",
            "decoder": "fpn",
            "scale": (0.75, 1.25),
            "crop": (32, 32),
            "batch_size": 2,
            "max_steps": 2,
            "val_every": 1,
            "workers": 0,
            "overlays": 1,
            "accelerator": "cpu",
        }
        return TrainConfig(out=out, **{**options, **changes})

    return config


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., TrainConfig]
) -> Path:
    """The finished folder of such a run; nobody may write to it."""
    from agmm.commands.train import train

    return train(tiny_config(tmp_path_factory.mktemp("tiny") / "run")).path
