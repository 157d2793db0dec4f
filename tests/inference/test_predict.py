import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from agmm.datasets.windows import PictureRows, whole_picture
from agmm.errors import ConfigError
from agmm.inference.predict import predict_classes, predict_probabilities
from agmm.mixture import AGMMLoss
from agmm.models.segmenter import Segmenter, SegmenterOutput, build_segmenter
from agmm.shapes import ImageArray


class Ramp(nn.Module):
    """Logits that depend on the place in the tile and on nothing else."""

    def forward(self, images: Tensor) -> Tensor:
        y = torch.linspace(-2, 1, images.shape[2])[:, None] + 0 * images[:, 0]
        x = torch.linspace(-1, 3, images.shape[3]) + 0 * images[:, 0]
        return torch.stack([x, y], dim=1)


class HeadOnly(Segmenter):
    """Applies its head to the very pixels, without padding."""

    def forward(self, images: Tensor) -> SegmenterOutput:
        return SegmenterOutput(self.head(images), images)


def segmenter(head: nn.Module, num_classes: int) -> Segmenter:
    return HeadOnly(
        nn.Identity(), nn.Identity(), head, num_classes=num_classes, pad_to=4, std=(0.2, 0.3, 0.4)
    )


def per_pixel_segmenter(num_classes: int = 3) -> Segmenter:
    """A linear classifier of the colour: no pixel knows of its neighbours."""
    head = nn.Conv2d(3, num_classes, 1)
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    return segmenter(head, num_classes)


def random_image(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def recorded_inputs(model: Segmenter) -> list[Tensor]:
    """The batches that the model will be called with."""
    inputs: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    return inputs


def test_whole_picture_is_the_softmax_of_the_normalised_picture() -> None:
    model, image = per_pixel_segmenter(), random_image(5, 7)

    probabilities = predict_probabilities(model, image, device="cpu")

    head = model.head
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    weight, bias = head.weight[:, :, 0, 0].detach().numpy(), head.bias.detach().numpy()
    for y, x in np.ndindex(5, 7):
        logits = weight @ ((image[y, x] / 255 - model.mean) / model.std) + bias
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(probabilities[:, y, x], expected, rtol=1e-4, atol=1e-6)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.integers(1, 45),
    overlap=st.floats(0, 0.95),
    flip=st.booleans(),
    batch_size=st.integers(1, 5),
)
@settings(max_examples=40)
def test_tiles_do_not_matter_where_pixels_do_not_know_their_neighbours(
    size: tuple[int, int], tile: int, overlap: float, flip: bool, batch_size: int
) -> None:
    model, image = per_pixel_segmenter(), random_image(*size)

    whole = predict_probabilities(model, image, device="cpu", tile=None)
    tiled = predict_probabilities(
        model,
        image,
        device="cpu",
        tile=max(tile, max(size) // 8),
        overlap=overlap,
        flip=flip,
        batch_size=batch_size,
    )

    torch.testing.assert_close(tiled, whole)


def test_tiles_are_blended_under_a_hann_window() -> None:
    height, width, tile = 9, 21, 8
    model = segmenter(Ramp(), 2)

    blended = predict_probabilities(
        model, random_image(height, width), device="cpu", tile=tile, overlap=0.5, batch_size=3
    )

    one_tile = predict_probabilities(model, random_image(tile, tile), device="cpu").numpy()
    total, weight = np.zeros((2, height, width)), np.zeros((height, width))
    for top in (0, 1):  # 9 rows: the second tile ends with the picture
        for left in (0, 3, 6, 9, 13):  # 21 columns: four gaps of 13 / 4
            for y, x in np.ndindex(tile, tile):
                hann = (1 - math.cos(2 * math.pi * (y + 0.5) / tile)) * (
                    1 - math.cos(2 * math.pi * (x + 0.5) / tile)
                )
                total[:, top + y, left + x] += hann * one_tile[:, y, x]
                weight[top + y, left + x] += hann
    np.testing.assert_allclose(blended, total / weight, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "sizes_seen"),
    [
        ((30, 40), [(4, 3, 16, 16)] * 3),  # 3 rows of 4 tiles
        ((10, 40), [(4, 3, 10, 16)]),
        ((16, 16), [(1, 3, 16, 16)]),
        ((17, 16), [(2, 3, 16, 16)]),
        ((3, 5), [(1, 3, 3, 5)]),
    ],
)
def test_tiles_have_one_size_and_come_in_batches(
    size: tuple[int, int], sizes_seen: list[tuple[int, ...]]
) -> None:
    model = per_pixel_segmenter()
    seen = recorded_inputs(model)

    predict_probabilities(
        model, random_image(*size), device="cpu", tile=16, overlap=0.5, batch_size=4
    )

    assert [tuple(batch.shape) for batch in seen] == sizes_seen


def test_flip_averages_with_the_mirrored_prediction() -> None:
    model, image = segmenter(Ramp(), 2), random_image(6, 9)

    plain = predict_probabilities(model, image, device="cpu")
    flipped = predict_probabilities(model, image, device="cpu", flip=True)

    torch.testing.assert_close(flipped, (plain + plain.flip(-1)) / 2)
    assert not torch.allclose(plain, plain.flip(-1))


def test_mirrored_pictures_give_mirrored_predictions_with_flip() -> None:
    model = build_segmenter("fpn", "resnet18", "none", num_classes=3)
    image = random_image(33, 47)

    one = predict_probabilities(model, image, device="cpu", tile=32, flip=True)
    other = predict_probabilities(model, image[:, ::-1], device="cpu", tile=32, flip=True)

    # 32 + 15 columns: the tiles lie at 0 and 15, so the mirror image has the same tiles.
    torch.testing.assert_close(other.flip(-1), one, atol=1e-4, rtol=1e-3)


def test_scales_are_averaged_as_probabilities() -> None:
    model, image = per_pixel_segmenter(), random_image(12, 17)

    both = predict_probabilities(model, image, device="cpu", scales=[0.5, 1.5])

    single = [
        predict_probabilities(model, image, device="cpu", scales=[scale]) for scale in (0.5, 1.5)
    ]
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)
    assert not torch.allclose(single[0], single[1])


def test_image_scale_multiplies_the_scales() -> None:
    model, image = per_pixel_segmenter(), random_image(12, 17)

    halved_and_doubled = predict_probabilities(
        model, image, device="cpu", image_scale=0.5, scales=[2.0]
    )

    plain = predict_probabilities(model, image, device="cpu")
    torch.testing.assert_close(halved_and_doubled, plain)


def test_the_model_sees_the_picture_as_pillow_shrinks_it() -> None:
    model, image = per_pixel_segmenter(), random_image(36, 48)
    seen = recorded_inputs(model)

    probabilities = predict_probabilities(model, image, device="cpu", image_scale=0.5)

    mean, std = (torch.tensor(triple)[:, None, None] for triple in (model.mean, model.std))
    shrunk = np.array(Image.fromarray(image).resize((24, 18), Image.Resampling.BILINEAR))
    difference = (seen[0][0] * std + mean) * 255 - torch.from_numpy(shrunk).permute(2, 0, 1)
    assert difference.abs().max() < 1.01  # torchvision and Pillow round differently
    assert probabilities.shape == (3, 36, 48)


def test_a_shrunk_picture_by_another_library() -> None:
    model, image = per_pixel_segmenter(), random_image(37, 51)

    found = predict_probabilities(model, image, device="cpu", image_scale=0.6)

    shrunk = resize(torch.from_numpy(image).permute(2, 0, 1), [22, 31], antialias=True)
    small = predict_probabilities(model, shrunk.permute(1, 2, 0).numpy(), device="cpu")
    expected = resize(small, [37, 51], antialias=True)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)  # a grey value apart


def in_chunks(image: ImageArray, rows: int) -> PictureRows:
    pieces = (image[first : first + rows] for first in range(0, len(image), rows))
    return PictureRows(image.shape[0], image.shape[1], pieces)


def streamed_classes(model: Segmenter, picture: PictureRows, **options: Any) -> np.ndarray:
    rows: list[np.ndarray] = []
    predict_classes(model, picture, rows.append, device="cpu", **options)
    return np.concatenate(rows)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    rows=st.integers(1, 20),
    tile=st.none() | st.integers(8, 70),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8]),
    image_scale=st.sampled_from([1.0, 0.5, 0.37, 1.3]),
    scale=st.sampled_from([1.0, 0.75]),
    flip=st.booleans(),
    batch_size=st.integers(1, 5),
)
@settings(max_examples=60)
def test_classes_are_the_argmax_of_the_probabilities(
    size: tuple[int, int], rows: int, scale: float, **options: Any
) -> None:
    model, image = segmenter(nn.Conv2d(3, 4, 3, padding=1), 4), random_image(*size)

    found = streamed_classes(model, in_chunks(image, rows), scale=scale, **options)

    expected = predict_probabilities(model, image, device="cpu", scales=[scale], **options)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected.max(0).indices)


def test_classes_of_a_real_network_are_the_argmax_of_its_probabilities() -> None:
    model, image = build_segmenter("fpn", "resnet18", "none", 5), random_image(75, 110)

    found = streamed_classes(model, in_chunks(image, 9), tile=32, image_scale=0.8)

    expected = predict_probabilities(model, image, device="cpu", tile=32, image_scale=0.8)
    assert len(np.unique(found)) > 1
    assert np.array_equal(found, expected.argmax(0))


def test_classes_leave_before_the_picture_has_been_read() -> None:
    read, model = [], per_pixel_segmenter()
    image = random_image(64, 20)

    def chunks() -> Iterator[ImageArray]:
        for first in range(0, 64, 4):
            read.append(first)
            yield image[first : first + 4]

    written: list[tuple[int, int]] = []  # rows written, rows read
    predict_classes(
        model,
        PictureRows(64, 20, chunks()),
        lambda rows: written.append((len(rows), 4 * len(read))),
        device="cpu",
        tile=16,
        overlap=0.5,
        batch_size=1,
    )

    # A band leaves when the first tile of the next has been predicted.
    assert written == [(8, 24), (8, 32), (8, 40), (8, 48), (8, 56), (8, 64), (16, 64)]
    assert read == list(range(0, 64, 4))


def test_the_mode_is_restored_where_the_classes_cannot_be_written() -> None:
    model = batch_norm_segmenter()
    modes = [module.training for module in model.modules()]

    def full_disk(_: object) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        predict_classes(model, whole_picture(random_image(8, 8)), full_disk, device="cpu")
    assert [module.training for module in model.modules()] == modes


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    image_scale=st.floats(0.01, 2),
    scales=st.lists(st.floats(0.5, 2), min_size=1, max_size=3),
)
@settings(max_examples=30)
def test_probabilities_of_every_pixel_sum_to_one(
    size: tuple[int, int], image_scale: float, scales: list[float]
) -> None:
    probabilities = predict_probabilities(
        per_pixel_segmenter(),
        random_image(*size),
        device="cpu",
        image_scale=image_scale,
        scales=scales,
        tile=16,
    )

    assert probabilities.shape == (3, *size)
    assert probabilities.dtype == torch.float32
    assert probabilities.min() >= 0
    torch.testing.assert_close(probabilities.sum(0), torch.ones(size))


def test_the_picture_stays_and_the_result_may_be_trained_on() -> None:
    image = random_image(6, 8)
    image.setflags(write=False)
    before = image.copy()

    probabilities = predict_probabilities(per_pixel_segmenter(), image, device="cpu")

    assert np.array_equal(image, before)
    assert not probabilities.is_inference()
    assert not probabilities.requires_grad


def batch_norm_segmenter() -> Segmenter:
    """In training mode but for its first normalisation, which is frozen."""
    model = segmenter(
        nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)), 2
    ).train()
    frozen: Any = model.head
    frozen[0].eval()
    return model


def test_predicts_in_eval_mode_and_restores_the_mode_of_every_module() -> None:
    model = batch_norm_segmenter()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}

    first = predict_probabilities(model, random_image(8, 8), device="cpu")
    again = predict_probabilities(model, random_image(8, 8), device="cpu")

    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(first, again)


def test_restores_the_mode_after_a_failure() -> None:
    model = batch_norm_segmenter()
    modes = [module.training for module in model.modules()]

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.register_forward_pre_hook(fail)

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_probabilities(model, random_image(8, 8), device="cpu")
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_low_precision_logits_still_sum_to_one(half: torch.dtype) -> None:
    class Half(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images * 5).to(half)

    probabilities = predict_probabilities(segmenter(Half(), 3), random_image(8, 8), device="cpu")

    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(0), torch.ones(8, 8))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image_scale", 0.0),
        ("image_scale", math.nan),
        ("image_scale", math.inf),
        ("tile", 0),
        ("overlap", 1.0),
        ("overlap", -0.1),
        ("scales", []),
        ("scales", [1.0, 0.0]),
        ("scales", [math.inf]),
        ("batch_size", 0),
    ],
)
def test_options_are_checked(option: str, value: object) -> None:
    predict: Callable[..., Tensor] = predict_probabilities

    with pytest.raises(ConfigError, match=f"^{option}: expected"):
        predict(per_pixel_segmenter(), random_image(4, 4), device="cpu", **{option: value})


@pytest.mark.parametrize(("option", "value"), [("scale", 0.0), ("tile", 0), ("overlap", 1.0)])
def test_options_for_classes_are_checked(option: str, value: object) -> None:
    options: Any = {option: value}

    with pytest.raises(ConfigError, match=f"^{option}s?: expected"):
        streamed_classes(per_pixel_segmenter(), whole_picture(random_image(4, 4)), **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_probabilities_on_the_gpu() -> None:
    model, image = per_pixel_segmenter(), random_image(40, 50)

    on_cpu = predict_probabilities(model, image, device="cpu", tile=16, scales=[0.5, 1.0])
    on_gpu = predict_probabilities(
        model.to("cuda"), image, device="cuda", tile=16, scales=[0.5, 1.0]
    )

    assert on_gpu.device.type == "cpu"
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-3, rtol=1e-2)


class Told(nn.Module):
    """An objective that knows a posterior by the mean colour of each cell of two pixels' side."""

    joint_prediction = True
    needs = frozenset({"images"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def unlabelled_posterior(self, logits: Tensor, features: Tensor, *, images: Tensor) -> Tensor:
        assert not self.training
        assert logits.shape[2:] == features.shape[2:] == images.shape[2:]
        return nn.functional.avg_pool2d(images, 2).softmax(1)


@pytest.mark.parametrize("flip", [False, True])
def test_the_posterior_of_an_objective_multiplies_the_probabilities(*, flip: bool) -> None:
    model, image, objective = per_pixel_segmenter(), random_image(6, 8), Told().train()

    joint = predict_probabilities(
        model, image, objective=objective, device="cpu", flip=flip, tile=None
    )

    assert objective.training
    probs = predict_probabilities(model, image, device="cpu")
    colours = (torch.from_numpy(image.copy()).permute(2, 0, 1) / 255).double()
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.mean, model.std))
    cells = nn.functional.avg_pool2d(((colours - mean) / std)[None], 2).softmax(1)
    posterior = nn.functional.interpolate(cells, (6, 8), mode="bilinear")[0].numpy()
    for y, x in np.ndindex(6, 8):
        expected = probs[:, y, x].numpy() * posterior[:, y, x]
        np.testing.assert_allclose(joint[:, y, x], expected / expected.sum(), rtol=1e-4)


def test_classes_are_those_of_network_and_posterior() -> None:
    model, image, objective = per_pixel_segmenter(), random_image(6, 8), Told()
    rows: list[np.ndarray[Any, Any]] = []

    predict_classes(model, whole_picture(image), rows.append, objective=objective, device="cpu")

    joint = predict_probabilities(model, image, objective=objective, device="cpu")
    assert (np.concatenate(rows) == joint.argmax(0).numpy()).all()
    assert (joint.argmax(0) != predict_probabilities(model, image, device="cpu").argmax(0)).any()


def test_an_objective_that_has_no_say_is_not_asked() -> None:
    class Silent(nn.Module):
        def forward(self, *arguments: Any) -> Any:
            raise AssertionError(f"asked with {arguments}")

    model, image = per_pixel_segmenter(), random_image(6, 8)
    loss = AGMMLoss(3, 3, joint_prediction=False)
    plain = predict_probabilities(model, image, device="cpu")
    for objective in (Silent(), loss):
        found = predict_probabilities(model, image, objective=objective, device="cpu")
        assert torch.equal(found, plain)


def test_the_mixture_that_has_seen_no_seed_has_no_say() -> None:
    model, image = per_pixel_segmenter(), random_image(6, 8)
    loss = AGMMLoss(3, 3, coherence=0.0)
    found = predict_probabilities(model, image, objective=loss, device="cpu")
    torch.testing.assert_close(found, predict_probabilities(model, image, device="cpu"))


def test_the_running_mixture_decides_where_the_network_cannot() -> None:
    head = nn.Conv2d(3, 2, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    model = segmenter(head, 2)
    loss = AGMMLoss(2, 3, coherence=0.0, prediction_temperature=0.5)
    loss.mixture.means = torch.tensor([[0.0, 0, 0], [1, 1, 1]])
    loss.mixture.variances = torch.tensor([1.0, 2.0])
    loss.mixture.mass = torch.ones(2)
    image = random_image(1, 4)

    probs = predict_probabilities(model, image, objective=loss, device="cpu")

    for x in range(4):
        feature = (image[0, x] / 255 - model.mean) / model.std
        # (N^(1/3))^(1/T) of a mean over three channels, with T = 1/2.
        distances = np.array([(feature**2).mean(), ((feature - 1) ** 2).mean()])
        density = np.exp(2 * (-distances / np.array([2.0, 4.0]) - np.log([1.0, 2.0]) / 2))
        np.testing.assert_allclose(probs[:, 0, x], density / density.sum(), rtol=1e-4)
        assert int(loss.step) == 0
