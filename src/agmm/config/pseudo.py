"""The config of the pseudo labels that a second network is trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agmm.config.rules import SHARE, Rule, check_fields, one_of

Checkpoint = Literal["best", "last"]


@dataclass(frozen=True)
class PseudoConfig:
    """Which pseudo labels a network is trained on, beside what the annotator labelled.

    Args:
        source: What ``--labels pseudo:RUN`` names: a run, whose pseudo labels are made first, or a
            folder that ``agmm label`` has written; ``null`` = none.
        checkpoint: Checkpoint of that run, best or last.
        threshold: Pixels of a lower confidence than this stay unlabelled, 0 to 1.
    """

    source: Path | None = None
    checkpoint: Checkpoint = "best"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, _RULES, "pseudo.")


_RULES: dict[str, Rule] = {
    "source": (lambda v: v is None or isinstance(v, Path), "a pathlib.Path, or null"),
    "checkpoint": one_of(Checkpoint),
    "threshold": SHARE,
}
