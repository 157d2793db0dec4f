"""Pseudo labels: hand values, a slow loop and refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from agmm.errors import InputError
from agmm.mixture import joint_probabilities, pseudo_labels


def maps(*classes: list[float]) -> torch.Tensor:
    """Maps of one row."""
    return torch.tensor(classes)[None, :, None, :]


def test_by_hand() -> None:
    probs, posterior = maps([0.5, 0.2], [0.5, 0.8]), maps([0.9, 0.5], [0.1, 0.5])
    labels = pseudo_labels(probs, posterior)
    assert labels.masks.tolist() == [[[0, 1]]]
    assert labels.confidence.flatten().tolist() == pytest.approx([0.9, 0.8])


def test_what_the_labels_rule_out_lowers_the_confidence_of_the_whole_image() -> None:
    probs, posterior = maps([0.5, 0.2], [0.3, 0.6], [0.2, 0.2]), maps(*[[0.5, 0.5]] * 3)
    support = maps([0.6, 0.3], [0.4, 0.7], [0.0, 0.0])
    everywhere = torch.tensor([[True, True, False]])
    labels = pseudo_labels(probs, posterior, everywhere, support=support)
    assert labels.masks.tolist() == [[[0, 1]]]
    assert labels.confidence.flatten().tolist() == pytest.approx([0.8 * 0.6, 0.8 * 0.7])

    by_pixel = torch.ones(1, 3, 1, 2, dtype=torch.bool)
    by_pixel[0, 0, 0, 0] = False  # then the mean of 0.5 and 1
    labels = pseudo_labels(probs, posterior, by_pixel, support=support)
    assert labels.masks.tolist() == [[[1, 1]]]
    assert labels.confidence.flatten().tolist() == pytest.approx([0.75 * 0.4, 0.75 * 0.7])

    batch = pseudo_labels(
        torch.cat([probs, probs]), torch.cat([posterior, posterior]),
        torch.cat([everywhere, ~everywhere]), support=torch.cat([support, support]),
    )  # fmt: skip
    assert batch.confidence[0].flatten().tolist() == pytest.approx([0.8 * 0.6, 0.8 * 0.7])
    assert batch.confidence[1].flatten().tolist() == [0, 0]


def test_the_support_of_the_class_is_its_confidence() -> None:
    probs, posterior = maps([0.5, 0.2], [0.5, 0.8]), maps([0.9, 0.5], [0.1, 0.5])
    support = maps([0.6, 0.7], [0.4, 0.3])
    labels = pseudo_labels(probs, posterior, support=support, threshold=0.5)
    assert labels.masks.tolist() == [[[0, 255]]]
    assert labels.confidence.flatten().tolist() == pytest.approx([0.6, 0.3])
    wide = pseudo_labels(maps([0.9] * 4, [0.1] * 4), maps([0.5] * 4, [0.5] * 4), support=support)
    enlarged = torch.nn.functional.interpolate(support, (1, 4), mode="bilinear")
    torch.testing.assert_close(wide.confidence, enlarged[:, 0])


def test_below_the_threshold_is_unlabelled() -> None:
    probs = maps([0.7, 0.4, 0.2], [0.3, 0.6, 0.8])
    labels = pseudo_labels(probs, torch.full_like(probs, 0.5), threshold=0.65)
    assert labels.masks.tolist() == [[[0, 255, 1]]]
    assert labels.confidence.flatten().tolist() == pytest.approx([0.7, 0.6, 0.8])


def test_confidence_is_normalised_over_the_candidates() -> None:
    probs, posterior = maps([0.6], [0.3], [0.1]), maps([0.25], [0.5], [0.25])
    labels = pseudo_labels(probs, posterior, torch.tensor([[False, True, True]]))
    assert labels.masks.item() == 1
    assert labels.confidence.item() == pytest.approx(0.15 / 0.175)


def test_candidates_of_pixels() -> None:
    probs = maps([0.9, 0.9], [0.1, 0.1])
    candidates = torch.tensor([[[[True, False]], [[True, True]]]])
    labels = pseudo_labels(probs, torch.full_like(probs, 0.5), candidates)
    assert labels.masks.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("support", [None, maps([0.9], [0.1])])
def test_pixel_without_any_possible_class_is_unlabelled(support: torch.Tensor | None) -> None:
    labels = pseudo_labels(maps([1.0], [0.0]), maps([0.0], [1.0]), support=support)
    assert labels.masks.item() == 255
    assert labels.confidence.item() == 0


@pytest.mark.parametrize("support", [None, maps([0.9, 0.9], [0.1, 0.1])])
def test_a_probability_that_is_nan_labels_nothing(support: torch.Tensor | None) -> None:
    probs = maps([torch.nan, 0.75], [0.5, 0.25])
    labels = pseudo_labels(probs, torch.full_like(probs, 0.5), support=support)
    assert labels.masks.flatten().tolist() == [255, 0]
    assert labels.confidence.flatten().tolist() == pytest.approx(
        [0, 0.75 if support is None else 0.9]
    )


def test_posterior_is_enlarged_and_the_result_is_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(2, 3, 6, 8, generator=generator).softmax(1)
    posterior = torch.randn(2, 3, 3, 4, generator=generator).softmax(1)
    labels = pseudo_labels(probs, posterior, threshold=0.5)
    large = torch.nn.functional.interpolate(posterior, (6, 8), mode="bilinear")
    for b, i, j in np.ndindex(2, 6, 8):
        scores = (probs[b, :, i, j] * large[b, :, i, j]).numpy()
        share = scores.max() / scores.sum()
        assert labels.confidence[b, i, j].item() == pytest.approx(share, rel=1e-5)
        expected = scores.argmax() if share >= 0.5 else 255
        assert labels.masks[b, i, j].item() == expected


def test_half_precision_probabilities() -> None:
    labels = pseudo_labels(maps([0.25], [0.75]).half(), maps([0.5], [0.5]))
    assert labels.confidence.dtype == torch.float32
    assert labels.confidence.item() == pytest.approx(0.75)


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_wrong_threshold_is_named(threshold: float) -> None:
    with pytest.raises(InputError, match=r"^threshold: expected 0 to 1, got"):
        pseudo_labels(maps([1.0], [0.0]), maps([1.0], [0.0]), threshold=threshold)


def test_wrong_shape_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import jaxtyping

    # What a user meets, to whom no type checker speaks first.
    config: Any = jaxtyping.config
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match=r"^posterior: expected the images and classes of probs"):
        pseudo_labels(maps([1.0], [0.0]), maps([1.0]))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("probs", {"probs": torch.ones(4, 6, 8)}),
        ("posterior", {"posterior": torch.ones(2, 1, 3, 4)}),
        ("posterior", {"posterior": torch.ones(1, 4, 3, 4)}),
        ("posterior", {"posterior": torch.ones(2, 4, 3)}),
        ("support", {"support": torch.ones(2, 5, 3, 4)}),
        ("support", {"support": torch.ones(3, 4, 3, 4)}),
        ("candidates", {"candidates": torch.ones(2, 4, 3, 4).bool()}),
        ("candidates", {"candidates": torch.ones(2, 6, 8).bool()}),
        ("candidates", {"candidates": torch.ones(2, 4)}),
    ],
)
def test_what_does_not_fit_the_probabilities_is_refused(
    name: str, wrong: dict[str, torch.Tensor]
) -> None:
    maps: dict[str, Any] = {"probs": torch.ones(2, 4, 6, 8), "posterior": torch.ones(2, 4, 3, 4)}
    maps = {**maps, **wrong}
    with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
        pseudo_labels(**maps)
    if set(maps) == {"probs", "posterior"}:
        with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
            joint_probabilities(**maps)
