"""Semantic segmentation from points, scribbles and blocks instead of dense masks.

The public names, and the modules that the manual names, are imported on first use, so that
``import agmm`` and ``agmm --help`` do not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agmm.commands.evaluate import evaluate
    from agmm.commands.label import label
    from agmm.commands.predict import predict
    from agmm.commands.train import train
    from agmm.config import TrainConfig
    from agmm.datasets.reader import read_dataset
    from agmm.mixture import AGMMLoss
    from agmm.training.run import load_run

__version__ = "0.1.0"

_HOMES = {
    "AGMMLoss": "agmm.mixture",
    "TrainConfig": "agmm.config",
    "evaluate": "agmm.commands.evaluate",
    "label": "agmm.commands.label",
    "load_run": "agmm.training.run",
    "predict": "agmm.commands.predict",
    "read_dataset": "agmm.datasets.reader",
    "train": "agmm.commands.train",
}
_MODULES = {"config", "errors", "mixture"}

__all__ = [
    "AGMMLoss",
    "TrainConfig",
    "evaluate",
    "label",
    "load_run",
    "predict",
    "read_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"agmm.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'agmm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
