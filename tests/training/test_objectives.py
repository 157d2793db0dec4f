from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from agmm.config import Method
from agmm.errors import ConfigError
from agmm.mixture import AGMM2023Loss, AGMMLoss
from agmm.training.baselines import EMATeacherLoss, PartialCrossEntropyLoss
from agmm.training.gated_crf import GatedCRFLoss
from agmm.training.objectives import build_objective
from agmm.training.prototypes import PrototypeContrastLoss

METHODS: tuple[Method, ...] = get_args(Method)
CLASSES, CHANNELS = 4, 5


def random_batch(seed: int = 0) -> dict[str, Any]:
    """Arguments of an objective, two pictures of 8x12 on a grid of 2x3."""
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(CLASSES, (2, 8, 12), generator=generator)
    unlabelled = torch.rand(2, 8, 12, generator=generator) < 0.8
    candidates = torch.tensor([[True, True, True, False], [True, True, True, True]])
    seeds = seeds.masked_fill(unlabelled, 255)
    seeds[0] = seeds[0].masked_fill(seeds[0] == 3, 0)
    valid = torch.ones(2, 8, 12, dtype=torch.bool)
    valid[1, :, 9:] = False
    return {
        "logits": torch.randn(2, CLASSES, 8, 12, generator=generator).requires_grad_(),
        "features": torch.randn(2, CHANNELS, 2, 3, generator=generator).requires_grad_(),
        "seeds": seeds,
        "candidates": candidates,
        "valid": valid,
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_finite_loss_with_a_gradient(method: Method) -> None:
    objective = build_objective(method, CLASSES, CHANNELS, {}, warmup_steps=3)
    batch = random_batch()

    for _ in range(3):
        result = objective(**batch)
        result.loss.backward()

    assert result.loss.shape == ()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(batch["logits"].grad).all()
    assert batch["logits"].grad.abs().sum() > 0
    assert batch["logits"].grad[1, :, :, 9:].abs().sum() == 0  # padding
    total = sum(result.terms.values(), start=torch.zeros(()))
    torch.testing.assert_close(result.loss.detach(), total)
    assert not any(term.requires_grad for term in result.terms.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_posterior_is_one_over_the_candidates(method: Method) -> None:
    batch = random_batch()

    posterior: Tensor = build_objective(method, CLASSES, CHANNELS, {})(**batch).posterior

    assert posterior.shape == (2, CLASSES, 2, 3)
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, 2, 3))
    assert (posterior[0, 3] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_objective_comes_back_from_its_state(method: Method) -> None:
    trained = build_objective(method, CLASSES, CHANNELS, {}, warmup_steps=3)
    trained(**random_batch())
    loaded = build_objective(method, CLASSES, CHANNELS, {})

    loaded.load_state_dict(trained.state_dict())

    batch = random_batch(1)
    posterior = loaded.eval()(**batch).posterior
    torch.testing.assert_close(posterior, trained.eval()(**batch).posterior)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("agmm", AGMMLoss),
        ("agmm-2023", AGMM2023Loss),
        ("partial-ce", PartialCrossEntropyLoss),
        ("partial-ce+absent", PartialCrossEntropyLoss),
        ("ema-teacher", EMATeacherLoss),
        ("gated-crf", GatedCRFLoss),
        ("prototype-contrast", PrototypeContrastLoss),
        ("dense", PartialCrossEntropyLoss),
    ],
)
def test_the_name_decides_the_objective(method: Method, kind: type[nn.Module]) -> None:
    assert type(build_objective(method, CLASSES, CHANNELS, {})) is kind


def test_the_absent_class_term_is_what_the_two_partial_methods_differ_in() -> None:
    batch = random_batch()

    plain = build_objective("partial-ce", CLASSES, CHANNELS, {})(**batch)
    absent = build_objective("partial-ce+absent", CLASSES, CHANNELS, {})(**batch)

    assert set(plain.terms) == {"partial_cross_entropy"}
    assert set(absent.terms) == {"partial_cross_entropy", "absent_class"}
    torch.testing.assert_close(absent.loss - plain.loss, absent.terms["absent_class"])
    assert absent.terms["absent_class"] > 0


def test_options_reach_the_objective() -> None:
    objective = build_objective("agmm", CLASSES, CHANNELS, {"mutual": 0.25, "step_size": 0.5})

    assert isinstance(objective, AGMMLoss)
    assert objective.weights["mutual"] == 0.25
    assert objective.step_size == 0.5


@pytest.mark.parametrize("method", ["agmm", "ema-teacher", "prototype-contrast"])
def test_the_warm_up_reaches_the_objective(method: Method) -> None:
    objective: Any = build_objective(method, CLASSES, CHANNELS, {}, warmup_steps=17)

    assert objective.warmup_steps == 17


def test_words_reach_the_objective() -> None:
    options: dict[str, float | str] = {"centres": "running", "components": 2.0}

    objective = build_objective("agmm", CLASSES, CHANNELS, options)

    assert isinstance(objective, AGMMLoss)
    assert objective.choices.centres == "running"
    assert len(objective.mixture.mass) == 2 * CLASSES


@pytest.mark.parametrize("value", [False, True, 0.0, 1.0])
def test_flags_may_be_given_as_numbers(value: bool | float) -> None:
    options = {"network_prior": value, "normalise_features": value}

    objective = build_objective("agmm", CLASSES, CHANNELS, options)

    assert isinstance(objective, AGMMLoss)
    assert objective.network_prior is bool(value)
    assert objective.normalise_features is bool(value)


@pytest.mark.parametrize(
    ("method", "option", "known"),
    [
        ("agmm", "mutal", "mutual"),
        ("agmm", "num_classes", "mutual"),
        ("agmm", "warmup_steps", "mutual"),
        ("agmm-2023", "mutual", "variance"),
        ("partial-ce", "absent", "none"),
        ("partial-ce+absent", "absent", "none"),
        ("ema-teacher", "warmup_steps", "consistency"),
        ("gated-crf", "consistency", "sigma_rgb"),
        ("prototype-contrast", "feature_channels", "momentum"),
        ("dense", "anything", "none"),
    ],
)
def test_an_unknown_option_is_refused_with_those_that_there_are(
    method: Method, option: str, known: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_objective(method, CLASSES, CHANNELS, {option: 1.0})

    assert str(caught.value).startswith(f"--objective.{option}: {method} has no such option; ")
    assert known in str(caught.value)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("agmm", "network_prior", 0.5),
        ("agmm-2023", "variance", 2.0),
        ("agmm", "mutual", float("nan")),
        ("agmm", "mutual", float("inf")),
        ("agmm", "mutual", -1.0),
        ("ema-teacher", "consistency", -1.0),
        ("gated-crf", "radius", 2.5),
        ("agmm", "components", 1.5),
        ("agmm", "mutual", "much"),
        ("agmm", "centres", 1.0),
        ("agmm", "coherence", True),
        ("agmm", "components", True),
        ("gated-crf", "weight", False),
    ],
)
def test_an_unusable_value_is_refused_by_the_name_of_its_option(
    method: Method, option: str, value: float | bool | str
) -> None:
    with pytest.raises(ConfigError, match=rf"\b{option}: expected .*, got {value}"):
        build_objective(method, CLASSES, CHANNELS, {option: value})
