"""Random batches for the tests of the mixture."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


def make_batch(
    *,
    batch: int = 2,
    classes: int = 4,
    channels: int = 3,
    pixels: tuple[int, int] = (6, 8),
    cells: tuple[int, int] = (3, 4),
    labelled: float = 0.3,
    candidates: str = "all",
    padding: bool = False,
    teacher: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Any]:
    """Arguments of an objective; `candidates` is all, image or pixel; a teacher is independent."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def chance(probability: float, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) < probability

    seeds = torch.randint(classes, (batch, *pixels), generator=generator)
    seeds = seeds.masked_fill(~chance(labelled, batch, *pixels), 255)
    arguments: dict[str, Any] = {
        "logits": normal(batch, classes, *pixels).requires_grad_(),
        "features": normal(batch, channels, *cells).requires_grad_(),
        "seeds": seeds,
        "candidates": None,
        "valid": None,
    }
    if candidates != "all":
        shape = (batch, classes) if candidates == "image" else (batch, classes, *pixels)
        arguments["candidates"] = chance(0.6, *shape)
        arguments["candidates"][:, 0] = True
    if padding:
        arguments["valid"] = torch.ones(batch, *pixels, dtype=torch.bool)
        arguments["valid"][0, :, (pixels[1] + 1) // 2 :] = False
        arguments["valid"][-1, (pixels[0] + 1) // 2 :] = False
    if teacher:  # last, so that all else is the same without
        arguments["teacher_logits"] = normal(batch, classes, *pixels)
        arguments["teacher_features"] = normal(batch, channels, *cells)
    return arguments


@pytest.fixture(name="make_batch")
def _make_batch() -> Callable[..., dict[str, Any]]:
    return make_batch
