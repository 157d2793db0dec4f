from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from agmm.evaluation.calibration import CalibrationMap
from agmm.inference.label import LabelledPicture, label_picture
from agmm.labels.supervision import Supervision
from agmm.mixture import AGMMLoss, ObjectiveOutput
from agmm.models.segmenter import Segmenter, SegmenterOutput
from agmm.shapes import ImageArray

K, MEAN, STD = 3, (0.1, 0.2, 0.3), (0.2, 0.3, 0.4)


class PerPixel(Segmenter):
    """Logits are a linear map of the colour; features are the colours of cells of 4x4."""

    def forward(self, images: Tensor) -> SegmenterOutput:
        height, width = images.shape[-2:]
        size = (-(-height // 4), -(-width // 4))
        cells = functional.interpolate(images, size, mode="bilinear")
        return SegmenterOutput(self.head(images), cells)


def per_pixel_segmenter() -> Segmenter:
    head = nn.Conv2d(3, K, 1)
    generator = torch.Generator().manual_seed(3)
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    model = PerPixel(
        nn.Identity(), nn.Identity(), head, num_classes=K, pad_to=4, mean=MEAN, std=STD
    )
    return model.eval()


class Recorder(nn.Module):
    """An objective with a given posterior, that keeps what it was called with."""

    def __init__(self, posterior: Tensor) -> None:
        super().__init__()
        self.posterior = posterior
        self.seen: dict[str, Any] = {}

    def forward(
        self, logits: Tensor, features: Tensor, seeds: Tensor, **others: Any
    ) -> ObjectiveOutput:
        self.seen = {"logits": logits, "features": features, "seeds": seeds, **others}
        return ObjectiveOutput(loss=logits.sum(), terms={}, posterior=self.posterior)


def random_image(height: int = 12, width: int = 16) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def unlabelled(height: int = 12, width: int = 16, *, candidates: Any = None) -> Supervision:
    allowed = np.ones(K, np.bool_) if candidates is None else np.array(candidates)
    return Supervision(np.full((height, width), 255, np.uint8), allowed)


def posterior_of(*cells: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, K, *cells, generator=generator).softmax(1)


def labelled_picture(
    objective: nn.Module, image: ImageArray, given: Supervision, **changes: Any
) -> LabelledPicture:
    options: dict[str, Any] = {"image_scale": 1.0, "threshold": 0.0, "device": "cpu", **changes}
    return label_picture(per_pixel_segmenter(), objective, image, given, **options)


def slow_probabilities(image: ImageArray) -> np.ndarray:
    head: Any = per_pixel_segmenter().head
    weight, bias = head.weight[:, :, 0, 0].detach().numpy(), head.bias.detach().numpy()
    result = np.zeros((K, *image.shape[:2]))
    for y, x in np.ndindex(image.shape[:2]):
        powers = np.exp(weight @ ((image[y, x] / 255 - MEAN) / STD) + bias)
        result[:, y, x] = powers / powers.sum()
    return result


def test_the_label_is_the_argmax_of_network_times_mixture_pixel_by_pixel() -> None:
    image, objective = random_image(), Recorder(posterior_of(12, 16))

    result = labelled_picture(objective, image, unlabelled())

    probs = slow_probabilities(image)
    np.testing.assert_allclose(result.probs, probs, atol=1e-5)
    np.testing.assert_allclose(result.posterior, objective.posterior[0], atol=1e-6)
    for y, x in np.ndindex(12, 16):
        product = probs[:, y, x] * objective.posterior[0, :, y, x].double().numpy()
        assert result.mask[y, x] == product.argmax()
        assert result.confidence[y, x] == pytest.approx(product.max() / product.sum(), abs=1e-5)


def test_the_posterior_is_enlarged_to_the_picture() -> None:
    flat = torch.tensor([0.2, 0.5, 0.3]).view(1, K, 1, 1).expand(1, K, 3, 4)

    result = labelled_picture(Recorder(flat), random_image(11, 15), unlabelled(11, 15))

    assert result.posterior.shape == result.probs.shape == (K, 11, 15)
    assert result.mask.shape == result.confidence.shape == (11, 15)
    expected = torch.tensor([0.2, 0.5, 0.3]).view(K, 1, 1).expand(K, 11, 15)
    torch.testing.assert_close(result.posterior, expected)


@pytest.mark.parametrize("size", [(7, 7), (9, 9), (10, 10), (11, 11), (15, 15)])
def test_the_posterior_stays_within_0_and_1(size: tuple[int, int]) -> None:
    certain = torch.tensor([1.0, 0.0, 0.0]).view(1, K, 1, 1).expand(1, K, 3, 3)

    result = labelled_picture(Recorder(certain), random_image(*size), unlabelled(*size))

    assert result.posterior.max() == 1
    assert result.posterior.min() == 0


def test_types_and_ranges() -> None:
    result = labelled_picture(Recorder(posterior_of(3, 4)), random_image(), unlabelled())

    assert result.mask.dtype == torch.uint8
    assert set(result.mask.flatten().tolist()) <= {0, 1, 2}
    assert result.confidence.min() > 1 / K - 1e-6
    assert result.confidence.max() <= 1
    torch.testing.assert_close(result.probs.sum(0), torch.ones(12, 16))


def test_given_labels_are_kept_whatever_network_mixture_and_threshold_say() -> None:
    seeds = np.full((12, 16), 255, np.uint8)
    seeds[2, 3], seeds[5, 9], seeds[11, 15] = 0, 1, 2
    given = Supervision(seeds, np.ones(K, np.bool_))
    for sure_of in range(K):
        posterior = torch.zeros(1, K, 3, 4)
        posterior[:, sure_of] = 1

        result = labelled_picture(Recorder(posterior), random_image(), given, threshold=1.0)

        assert [result.mask[2, 3], result.mask[5, 9], result.mask[11, 15]] == [0, 1, 2]
        assert result.confidence[seeds != 255].tolist() == [1.0, 1.0, 1.0]
        assert (result.mask[seeds == 255] == sure_of).all()


def test_guessed_seeds_help_but_may_be_mended() -> None:
    seeds = np.full((12, 16), 255, np.uint8)
    seeds[2, 3], seeds[5, 9] = 0, 1
    annotated = seeds.copy()
    annotated[5, 9] = 255
    posterior = torch.zeros(1, K, 3, 4)
    posterior[:, 2] = 1
    objective = Recorder(posterior)
    given = Supervision(seeds, np.ones(K, np.bool_))

    result = labelled_picture(objective, random_image(), given, annotated=annotated)

    assert [objective.seen["seeds"][0, 2, 3], objective.seen["seeds"][0, 5, 9]] == [0, 1]
    assert [result.mask[2, 3], result.mask[5, 9]] == [0, 2]
    assert result.confidence[2, 3] == 1


@pytest.mark.parametrize("image_scale", [0.5, 1.0])
def test_candidates_by_pixel_reach_the_mixture_at_its_scale(image_scale: float) -> None:
    candidates = np.ones((K, 12, 16), np.bool_)
    candidates[2, :, 5:] = False
    objective = Recorder(posterior_of(3, 4))

    result = labelled_picture(
        objective, random_image(), unlabelled(candidates=candidates), image_scale=image_scale
    )

    seen = objective.seen["candidates"]
    assert seen.shape == (1, K, round(12 * image_scale), round(16 * image_scale))
    assert seen[0, :2].all()
    last = {1.0: 5, 0.5: 3}[image_scale]  # the fifth column shares its cell with the sixth
    assert seen[0, 2, :, :last].all()
    assert not seen[0, 2, :, last:].any()
    assert (result.mask[:, 5:] != 2).all()


@pytest.mark.parametrize("threshold", [0.0, 0.45, 0.6, 1.0])
def test_below_the_threshold_a_pixel_is_unlabelled(threshold: float) -> None:
    image, objective = random_image(), Recorder(posterior_of(3, 4))
    every = labelled_picture(objective, image, unlabelled())

    some = labelled_picture(objective, image, unlabelled(), threshold=threshold)

    assert torch.equal(some.confidence, every.confidence)
    sure = every.confidence >= threshold
    assert torch.equal(some.mask, torch.where(sure, every.mask, 255))
    assert (threshold == 0) == bool(sure.all())


def test_a_class_that_the_labels_rule_out_is_never_named() -> None:
    image, posterior = random_image(), posterior_of(3, 4)
    free = labelled_picture(Recorder(posterior), image, unlabelled())
    assert set(free.mask.flatten().tolist()) == {0, 1, 2}

    result = labelled_picture(
        Recorder(posterior), image, unlabelled(candidates=[True, False, True])
    )

    assert set(result.mask.flatten().tolist()) == {0, 2}
    product = (free.probs * free.posterior)[[0, 2]]
    torch.testing.assert_close(result.confidence, product.amax(0) / product.sum(0))


def test_candidates_of_single_pixels_hold_at_these_pixels() -> None:
    candidates = np.ones((K, 12, 16), np.bool_)
    candidates[0, :, :8] = False
    candidates[1:, :, 8:] = False

    result = labelled_picture(
        Recorder(posterior_of(3, 4)), random_image(), unlabelled(candidates=candidates)
    )

    assert (result.mask[:, :8] != 0).all()
    assert (result.mask[:, 8:] == 0).all()


@pytest.mark.parametrize("image_scale", [0.25, 0.5, 1.0, 1.5])
def test_the_network_sees_the_picture_at_the_size_of_the_training(image_scale: float) -> None:
    seeds = np.full((12, 16), 255, np.uint8)
    seeds[1, 2], seeds[7, 13], seeds[10, 5] = 1, 0, 2
    objective = Recorder(posterior_of(3, 4))

    result = labelled_picture(
        objective, random_image(), Supervision(seeds, np.ones(K, np.bool_)), image_scale=image_scale
    )

    small = (round(12 * image_scale), round(16 * image_scale))
    assert objective.seen["logits"].shape == (1, K, *small)
    assert objective.seen["seeds"].shape == (1, *small)
    assert objective.seen["seeds"].dtype == torch.int64
    assert set(objective.seen["seeds"].flatten().tolist()) == {0, 1, 2, 255}  # no click is lost
    assert objective.seen["candidates"].tolist() == [[True] * K]
    assert result.mask.shape == (12, 16)
    assert [result.mask[1, 2], result.mask[7, 13], result.mask[10, 5]] == [1, 0, 2]


def test_the_smallest_picture_keeps_a_pixel() -> None:
    result = labelled_picture(
        Recorder(posterior_of(1, 1)), random_image(1, 3), unlabelled(1, 3), image_scale=0.1
    )

    assert result.mask.shape == (1, 3)


@pytest.mark.parametrize("options", [{}, {"appearance": 1.0}, {"centres": "pixels"}])
def test_with_the_mixture_classes_follow_the_colours_of_the_seeds(options: Any) -> None:
    colors = np.array([[230, 20, 20], [20, 230, 20], [20, 20, 230]], np.uint8)
    truth = np.repeat([2, 0, 1], [16, 12, 20])[None].repeat(24, 0)
    seeds = np.full((24, 48), 255, np.uint8)
    seeds[8, [4, 22, 40]] = truth[8, [4, 22, 40]]
    objective = AGMMLoss(K, 3, **options).eval()
    given = Supervision(seeds, np.ones(K, np.bool_))

    result = labelled_picture(objective, colors[truth], given)

    assert torch.equal(result.posterior.argmax(0)[:, ::4], torch.from_numpy(truth)[:, ::4])
    torch.testing.assert_close(result.posterior.sum(0), torch.ones(24, 48))
    # Sure of itself inside of the parts, less so between them.
    assert result.confidence[12, [8, 40]].min() > result.confidence[12, 16]
    assert int(objective.step) == 0


def test_a_calibrated_confidence_is_what_the_threshold_asks_for() -> None:
    image, objective = random_image(), Recorder(posterior_of(12, 16))
    given = unlabelled()
    given.seeds[3, 5] = 2
    halved = CalibrationMap((0.0, 1.0), (0.0, 0.5))

    plain = labelled_picture(objective, image, given)
    result = labelled_picture(objective, image, given, calibration=halved, threshold=0.3)

    free = torch.from_numpy(given.seeds == 255)
    torch.testing.assert_close(result.confidence[free], plain.confidence[free] / 2)
    assert result.mask[3, 5] == 2
    assert result.confidence[3, 5] == 1
    unsure = free & (plain.confidence / 2 < 0.3)
    assert 0 < unsure.sum() < free.sum()
    assert (result.mask == plain.mask.masked_fill(unsure, 255)).all()


def test_no_calibration_makes_a_pixel_sure_that_has_no_label() -> None:
    # No candidate has any probability in the first half.
    posterior = posterior_of(12, 16)
    posterior[:, :2, :, :8] = 0
    sure = CalibrationMap((0.5,), (0.9,))

    result = labelled_picture(
        Recorder(posterior), random_image(), unlabelled(candidates=[True, True, False]),
        calibration=sure,
    )  # fmt: skip

    none = result.mask == 255
    assert none[:, :7].all()
    assert (result.confidence[none] == 0).all()
    torch.testing.assert_close(
        result.confidence[~none], torch.full_like(none[~none], 0.9, dtype=torch.float32)
    )
