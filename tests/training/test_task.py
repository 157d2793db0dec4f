"""The Lightning task by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agmm.commands.train import train
from agmm.config import TrainConfig
from agmm.data.dataset import Sample
from agmm.models.segmenter import Segmenter, build_segmenter
from agmm.training.objectives import build_objective
from agmm.training.task import SegmentationTask, parameter_groups

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def network() -> Segmenter:
    return build_segmenter("fpn", "mobilenetv3_small_050", "none", 3)


def test_every_parameter_is_in_one_group(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    groups = parameter_groups(network, tiny_config(tmp_path))
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in network.parameters())


def test_a_pretrained_encoder_has_its_own_rate_and_norms_do_not_decay(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    config = tiny_config(
        tmp_path, encoder_weights="imagenet", lr=1.0, encoder_lr_factor=0.25, weight_decay=0.5
    )
    by_id = {id(p): g for g in parameter_groups(network, config) for p in g["params"]}
    for name, parameter in network.named_parameters():
        group = by_id[id(parameter)]
        assert group["lr"] == (0.25 if name.startswith("encoder.") else 1.0), name
        assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0), name


def test_an_encoder_from_scratch_learns_at_the_full_rate(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    groups = parameter_groups(network, tiny_config(tmp_path, lr=1.0))
    assert {group["lr"] for group in groups} == {1.0}


def test_the_averaged_weights_follow_the_exponential_average(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    """First update: a copy. Second, by hand: 0.9 · first + 0.1 · second."""
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    task = SegmentationTask(network, objective, tiny_config(tmp_path, ema_decay=0.9), 10)
    weight = next(network.parameters())
    averaged = next(task.averaged.parameters())
    with torch.no_grad():
        weight.fill_(1.0)
        task.averaged.update_parameters(network)
        weight.fill_(2.0)
        task.averaged.update_parameters(network)
    torch.testing.assert_close(averaged, torch.full_like(averaged, 1.1))
    assert not averaged.requires_grad


def test_the_averaged_network_never_leaves_eval_mode(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at in every step of a training with validations in between."""
    step = SegmentationTask.training_step
    seen = []

    def watched(self: SegmentationTask, batch: Sample, batch_idx: int) -> Tensor:
        teaches = any(module.training for module in self.averaged.modules())
        seen.append((all(module.training for module in self.model.modules()), teaches))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationTask, "training_step", watched)
    train(tiny_config(tmp_path / "run", max_steps=4, val_every=2, overlays=0))
    assert seen == [(True, False)] * 4


def test_the_rate_falls_polynomially_to_zero(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    task = SegmentationTask(network, objective, tiny_config(tmp_path, lr=1.0), max_steps=4)
    made = task.configure_optimizers()
    assert isinstance(made, dict)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]  # type: ignore[typeddict-item]
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [(1 - step / 4) ** 0.9 for step in range(4)]
    torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected))
    assert optimizer.param_groups[0]["lr"] == 0


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimisers(
    name: str, kind: type, network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    task = SegmentationTask(network, objective, tiny_config(tmp_path, optimizer=name), 4)
    made = task.configure_optimizers()
    assert isinstance(made, dict)
    assert isinstance(made["optimizer"], kind)
