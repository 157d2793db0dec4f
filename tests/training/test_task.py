"""The Lightning task by itself."""

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from agmm.commands.train import train
from agmm.config import METHODS, Method, TrainConfig
from agmm.data.dataset import Sample, view_seed
from agmm.mixture import Need, ObjectiveOutput
from agmm.models.segmenter import Segmenter, build_segmenter
from agmm.training.objectives import build_objective
from agmm.training.run import checkpoint_path
from agmm.training.task import (
    SegmentationTask,
    average_weights,
    batch_norms,
    parameter_groups,
)

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def network() -> Segmenter:
    return build_segmenter("fpn", "mobilenetv3_small_050", "none", 3)


@pytest.fixture
def batch() -> Sample:
    """Two pictures of the first of three classes."""
    return {
        "image": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        "seeds": torch.zeros(2, 64, 64, dtype=torch.int64),
        "candidates": torch.ones(2, 3, dtype=torch.bool),
        "valid": torch.ones(2, 64, 64, dtype=torch.bool),
    }


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
    """First update: a copy. Second, by hand: 2/11 · first + 9/11 · second."""
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    task = SegmentationTask(network, objective, tiny_config(tmp_path, ema_decay=0.9), 10)
    weight = next(network.parameters())
    averaged = next(task.averaged.parameters())
    with torch.no_grad():
        weight.fill_(1.0)
        task.averaged.update_parameters(network)
        weight.fill_(2.0)
        task.averaged.update_parameters(network)
    torch.testing.assert_close(averaged, torch.full_like(averaged, 20 / 11))
    assert not averaged.requires_grad


@pytest.mark.parametrize(
    ("decay", "number", "expected"),
    [
        (0.99, 1, 20 / 11),  # 2/11 · 1 + 9/11 · 2
        (0.99, 8, 1.5),  # 9/18
        (0.99, 890, 1.01),  # from here on the decay itself
        (0.99, 100_000, 1.01),
        (0.0, 5, 2.0),
    ],
)
def test_the_decay_of_the_average_rises(decay: float, number: int, expected: float) -> None:
    averaged = [torch.ones(2), torch.ones(1)]
    average_weights(decay, averaged, [torch.full((2,), 2.0), torch.full((1,), 2.0)], number)
    assert averaged[0].tolist() == pytest.approx([expected] * 2)
    assert averaged[1].tolist() == pytest.approx([expected])


def test_whole_numbers_are_taken_over_and_not_averaged() -> None:
    averaged = [torch.tensor(3)]
    average_weights(0.99, averaged, [torch.tensor(7)], 1000)
    assert averaged[0].item() == 7


def test_of_the_averaged_network_only_the_norms_train(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at in every step of a training with validations in between."""
    step = SegmentationTask.training_step
    seen = []

    def watched(self: SegmentationTask, batch: Sample, batch_idx: int) -> Tensor:
        teaching = {module for module in self.averaged.modules() if module.training}
        network = all(module.training for module in self.model.modules())
        seen.append((network, teaching == set(batch_norms(self.averaged)), bool(teaching)))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationTask, "training_step", watched)
    train(tiny_config(tmp_path / "run", max_steps=4, val_every=2, overlays=0))
    assert seen == [(True, True, True)] * 4


def test_every_batch_of_every_process_has_dropout_of_its_own(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path, batch: Sample
) -> None:
    """Two steps of two batches each in three processes; one process draws as it always has."""
    task = SegmentationTask(network, nn.Identity(), tiny_config(tmp_path), max_steps=2)

    def drawn(step: int, batch_idx: int, rank: int, world_size: int) -> float:
        trainer = SimpleNamespace(global_step=step, global_rank=rank, world_size=world_size)
        task.trainer = trainer  # type: ignore[assignment]
        with torch.random.fork_rng(devices=[]):
            task.on_train_batch_start(batch, batch_idx)
            return torch.rand((), dtype=torch.float64).item()

    several = [drawn(s, b, r, 3) for s, b, r in itertools.product(range(2), range(2), range(3))]
    assert len(set(several)) == 12
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(view_seed(task.config.seed, 1) + 1)
        assert drawn(1, 1, 0, 1) == torch.rand((), dtype=torch.float64).item()


def test_a_teacher_of_the_same_weights_says_what_the_network_says(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    """Their norms take the same statistics, however far those of prediction are."""
    task = SegmentationTask(network, nn.Identity(), tiny_config(tmp_path), max_steps=1)
    images = 5 + 3 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for module in task.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    before = {name: value.clone() for name, value in task.averaged.state_dict().items()}
    ours, theirs = task.train().model(images), task.averaged(images)
    torch.testing.assert_close(theirs.logits, ours.logits)
    torch.testing.assert_close(theirs.features, ours.features)
    for name, value in task.averaged.state_dict().items():
        assert torch.equal(value, before[name]) or name.endswith("num_batches_tracked"), name
    task.eval()
    assert not any(module.training for module in task.averaged.modules())


def test_a_frozen_encoder_has_a_teacher_with_fixed_norms(
    network: Segmenter, encoder_file: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, encoder_weights=str(encoder_file), encoder_lr_factor=0.0)
    task = SegmentationTask(network, nn.Identity(), config, max_steps=1).train()
    teacher = task.averaged.module
    assert isinstance(teacher, Segmenter)
    assert not any(norm.training for norm in batch_norms(teacher.encoder))
    assert all(norm.training for norm in batch_norms(teacher.decoder))


@pytest.fixture
def encoder_file(network: Segmenter, tmp_path: Path) -> Path:
    """Weights of the encoder after a batch, so that its norms have statistics of their own."""
    network.train()(torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(1)))
    path = tmp_path / "encoder.safetensors"
    save_file(dict(network.encoder.state_dict()), path)
    return path


def test_a_frozen_encoder_does_not_move_bit_for_bit(
    network: Segmenter, encoder_file: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    """Weights and the statistics of the norms, of the network and of its average."""
    out = tmp_path / "run"
    first = network.encoder.state_dict()
    config = tiny_config(out, encoder_weights=str(encoder_file), encoder_lr_factor=0.0, max_steps=4)
    train(config)
    state = torch.load(checkpoint_path(out, "last"), weights_only=True)["state_dict"]
    for name, value in first.items():
        assert torch.equal(state[f"model.encoder.{name}"], value), name
        assert torch.equal(state[f"averaged.module.encoder.{name}"], value), name
    fresh = build_segmenter("fpn", "mobilenetv3_small_050", "none", 3, seed=config.seed)
    moved = [
        not torch.equal(state[f"model.decoder.{name}"], value)
        for name, value in fresh.decoder.state_dict().items()
    ]
    assert all(moved)


def test_an_encoder_with_a_rate_moves(
    network: Segmenter, encoder_file: Path, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(tiny_config(out, encoder_weights=str(encoder_file), encoder_lr_factor=0.01))
    state = torch.load(checkpoint_path(out, "last"), weights_only=True)["state_dict"]
    for name, value in network.encoder.named_parameters():
        assert not torch.equal(state[f"model.encoder.{name}"], value), name


def test_a_frozen_encoder_takes_less_memory(
    encoder_file: Path, tiny_config: MakeConfig, tmp_path: Path, batch: Sample
) -> None:
    """Bytes that autograd keeps for the backward pass, weights not counted."""
    kept = {}
    for factor in (0.0, 0.1):
        model = build_segmenter("fpn", "mobilenetv3_small_050", str(encoder_file), 3)
        objective = build_objective("agmm", 3, model.feature_channels, {})
        config = tiny_config(tmp_path, encoder_weights=str(encoder_file), encoder_lr_factor=factor)
        task = SegmentationTask(model, objective, config, 10)
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            task.objective_of(batch)
        kept[factor] = sum(size for pointer, size in sizes.items() if pointer not in weights)
        learning = {id(p) for group in parameter_groups(model, config) for p in group["params"]}
        inside = {id(p) for p in model.encoder.parameters()}
        assert learning.isdisjoint(inside) == (factor == 0)
    assert kept[0.0] < 0.7 * kept[0.1]


def test_a_frozen_encoder_predicts_while_the_rest_trains(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    config = tiny_config(tmp_path, encoder_weights="imagenet", encoder_lr_factor=0.0)
    task = SegmentationTask(network, objective, config, 10)
    for mode in (True, False, True):
        task.train(mode)
        assert not any(module.training for module in task.model.encoder.modules())
        assert all(module.training == mode for module in task.model.decoder.modules())


class Listening(torch.nn.Module):
    """An objective that keeps what it was called with."""

    def __init__(self, needs: frozenset[Need]) -> None:
        super().__init__()
        self.needs, self.given = needs, dict[str, Tensor]()

    def forward(self, logits: Tensor, features: Tensor, seeds: Tensor, **more: Any) -> Any:
        del features, seeds
        self.given = more
        return ObjectiveOutput(logits.sum(), {}, logits)


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_an_objective_is_given_what_it_declares_and_nothing_else(
    images: bool, teacher: bool, network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    wanted: dict[Need, bool] = {"images": images, "teacher": teacher}
    objective = Listening(frozenset(need for need, asked in wanted.items() if asked))
    task = SegmentationTask(network, objective, tiny_config(tmp_path), 10)
    batch: Sample = {
        "image": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
        "seeds": torch.zeros(2, 32, 32, dtype=torch.int64),
        "candidates": torch.ones(2, 3, dtype=torch.bool),
        "valid": torch.ones(2, 32, 32, dtype=torch.bool),
    }

    task.objective_of(batch)

    names = {"images"} if images else set()
    names |= {"teacher_logits", "teacher_features"} if teacher else set()
    assert objective.given.keys() == {"candidates", "valid"} | names
    if images:
        assert objective.given["images"] is batch["image"]
    if teacher:
        expected = task.averaged(batch["image"])
        torch.testing.assert_close(objective.given["teacher_logits"], expected.logits)
        assert not objective.given["teacher_features"].requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_what_it_declares(method: Method, network: Segmenter) -> None:
    objective = build_objective(method, 3, network.feature_channels, {})
    needs: frozenset[Need] = getattr(objective, "needs", frozenset())
    parameters = inspect.signature(objective.forward).parameters
    assert ("teacher_logits" in parameters) == ("teacher" in needs)
    assert ("images" in parameters) == ("images" in needs or method == "agmm")


def test_the_mixture_takes_the_images_that_it_declares(network: Segmenter) -> None:
    for weight, needs in ((0.0, {"teacher"}), (0.5, {"teacher", "images"})):
        objective = build_objective("agmm", 3, network.feature_channels, {"coherence": weight})
        assert objective.needs == needs


def test_an_encoder_from_scratch_cannot_be_frozen(
    network: Segmenter, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    objective = build_objective("partial-ce", 3, network.feature_channels, {})
    task = SegmentationTask(network, objective, tiny_config(tmp_path, encoder_lr_factor=0.0), 10)
    assert all(p.requires_grad for p in task.model.parameters())
    assert all(module.training for module in task.model.modules())


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
