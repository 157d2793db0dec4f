"""On a GPU the forward pass of the loss waits for no value: tensors that have none will do."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from agmm.mixture import AGMMLoss

OPTIONS: dict[str, dict[str, Any]] = {
    "the default": {},
    "all terms": {
        "mixture_likelihood": 1.0, "mutual_features": 1.0, "maximisation": 1.0, "separation": 1.0,
        "unlabelled_weight": 0.1,
    },
    "running centres": {"centres": "running", "components": 3, "variance": "shared"},
    "batch centres": {"centres": "batch", "variance": "fixed", "network_prior": False},
    "every pixel a component": {"centres": "pixels", "appearance": 0.5, "confidence": "largest"},
    "nothing beside the seeds": {"coherence": 0.0, "presence": False, "normalise_features": True},
}  # fmt: skip


def _batch(mode: FakeTensorMode) -> dict[str, Tensor]:
    """A batch on a GPU that need not exist: every shape and type, and no value."""
    with mode:
        return {
            "logits": torch.empty(2, 4, 12, 16, device="cuda", requires_grad=True),
            "features": torch.empty(2, 3, 3, 4, device="cuda", requires_grad=True),
            "seeds": torch.empty(2, 12, 16, dtype=torch.int64, device="cuda"),
            "candidates": torch.empty(2, 4, dtype=torch.bool, device="cuda"),
            "valid": torch.empty(2, 12, 16, dtype=torch.bool, device="cuda"),
            "images": torch.empty(2, 3, 12, 16, device="cuda"),
        }


@pytest.mark.parametrize("taught", [True, False], ids=["teacher", "no teacher"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_value_is_waited_for(options: dict[str, Any], taught: bool) -> None:
    mode = FakeTensorMode()
    batch = _batch(mode)
    with mode:
        objective = AGMMLoss(4, 3, **options).to("cuda")
        teacher = {}
        if taught:
            teacher = {
                f"teacher_{name}": batch[name].detach().clone() for name in ("logits", "features")
            }
        for training in (True, False):
            out = objective.train(training)(**batch, **teacher)
            assert (out.loss.device.type, out.posterior.shape) == ("cuda", (2, 4, 3, 4))
        alone = objective.unlabelled_posterior(
            batch["logits"], batch["features"], images=batch["images"]
        )
    assert alone.shape == (2, 4, 3, 4)


def test_waiting_for_a_value_would_be_seen() -> None:
    mode = FakeTensorMode()
    batch = _batch(mode)
    with mode, pytest.raises(DataDependentOutputException):
        bool(batch["valid"].any())
