import copy
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from agmm.errors import ConfigError, InputError
from agmm.models.segmenter import Segmenter, _reduced, build_segmenter

NUM_CLASSES = 5
# Decoder, encoder, stride of the features, their channels.
PAIRS = [
    ("deeplabv3plus", "mobilenetv2_100", 4, 256),
    ("deeplabv3plus", "resnet18", 4, 256),
    ("fpn", "mobilenetv2_100", 4, 128),
    ("fpn", "efficientnet-b0", 4, 128),  # a name that only smp knows
    ("upernet", "convnext_atto", 4, 256),  # starts at stride 4
    ("upernet", "swinv2_tiny_window8_256", 4, 256),  # by default of one size
    ("segformer", "mit_b0", 4, 256),
    ("segformer", "mobilenetv2_100", 4, 256),
    ("unet", "resnet18", 4, 16),
    ("pan", "resnet18", 4, 32),
    ("deeplabv3", "resnet18", 8, 256),
    ("dpt", "vit_tiny_patch16_224", 4, 256),
    ("dpt", "vit_small_patch14_reg4_dinov2", 4, 256),
    ("dpt", "vit_tiny_patch16_dinov3_qkvb", 4, 256),
]
FAMILIES = [
    ("deeplabv3plus", "mobilenetv2_100"),
    ("segformer", "mit_b0"),
    ("unet", "resnet18"),
    ("dpt", "vit_tiny_patch16_224"),
]


@pytest.fixture(scope="module")
def built() -> Callable[[str, str], Segmenter]:
    """Networks by name, each built once; tests that change one copy it first."""
    networks: dict[tuple[str, str], Segmenter] = {}

    def build(decoder: str, encoder: str) -> Segmenter:
        if (decoder, encoder) not in networks:
            networks[decoder, encoder] = build_segmenter(decoder, encoder, "none", NUM_CLASSES)
        return networks[decoder, encoder].eval()

    return build


def pictures(*size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("decoder", "encoder", "stride", "channels"), PAIRS)
def test_outputs_cover_images_of_any_size(
    built: Callable[[str, str], Segmenter], decoder: str, encoder: str, stride: int, channels: int
) -> None:
    network = built(decoder, encoder)
    assert (network.feature_stride, network.feature_channels) == (stride, channels)
    assert network.num_classes == NUM_CLASSES
    with torch.no_grad():
        for height, width in [(45, 61), (64, 96), (1, 1)]:
            logits, features = network(pictures(height, width))
            cells = (math.ceil(height / stride), math.ceil(width / stride))
            assert logits.shape == (2, NUM_CLASSES, height, width)
            assert features.shape == (2, channels, *cells)
            assert logits.isfinite().all()
            assert features.isfinite().all()


@pytest.mark.parametrize(("decoder", "encoder"), FAMILIES)
def test_padding_is_the_same_as_zeros_in_the_image(
    built: Callable[[str, str], Segmenter], decoder: str, encoder: str
) -> None:
    network = built(decoder, encoder)
    images = pictures(*(side + network._padding(side) for side in (45, 61)))
    images[..., 45:, :] = 0
    images[..., 61:] = 0
    with torch.no_grad():
        whole = network(images)
        cropped = network(images[..., :45, :61])
    torch.testing.assert_close(cropped.logits, whole.logits[..., :45, :61])
    torch.testing.assert_close(cropped.features, whole.features[..., :12, :16])


@pytest.mark.parametrize(
    ("side", "multiple", "minimum", "padded"),
    [(1, 32, 1, 32), (32, 32, 1, 32), (33, 32, 1, 64), (45, 28, 1, 56), (5, 16, 128, 128)],
)
def test_padding_goes_to_the_next_multiple(
    built: Callable[[str, str], Segmenter], side: int, multiple: int, minimum: int, padded: int
) -> None:
    network = copy.copy(built("fpn", "mobilenetv2_100"))
    network._pad_to, network._minimum = multiple, minimum
    assert side + network._padding(side) == padded


@pytest.mark.parametrize(("decoder", "encoder"), [*FAMILIES[:3], ("fpn", "mobilenetv2_100")])
def test_equals_the_library_s_own_network_but_for_the_upsampling(
    decoder: str, encoder: str
) -> None:
    import segmentation_models_pytorch as smp

    network = build_segmenter(decoder, encoder, "none", NUM_CLASSES).eval()
    known = encoder if encoder.startswith("mit") else f"tu-{encoder}"
    reference = smp.create_model(decoder, known, None, classes=NUM_CLASSES).eval()
    reference.encoder.load_state_dict(network.encoder.state_dict())
    reference.decoder.load_state_dict(network.decoder.state_dict())
    reference.segmentation_head[0].load_state_dict(network.head.state_dict())
    stride = 1 if decoder == "unet" else 4
    images = pictures(64, 96)
    with torch.no_grad():
        decoded = reference.decoder(reference.encoder(images))
        fine = reference.segmentation_head[0](decoded)
        logits, features = network(images)
    torch.testing.assert_close(logits, _upsampled(fine, stride))
    torch.testing.assert_close(features, avg_pool2d(decoded, 4 // stride))


def _upsampled(fine: Tensor, factor: int) -> Tensor:
    """Bilinear interpolation as two matrix products; cell c has its centre at c + 1/2."""

    def matrix(cells: int) -> Tensor:
        rows = torch.zeros(cells * factor, cells)
        for pixel in range(cells * factor):
            position = min(max((pixel + 0.5) / factor - 0.5, 0), cells - 1)
            below = min(int(position), max(cells - 2, 0))
            rows[pixel, below] = 1 - (position - below)
            rows[pixel, min(below + 1, cells - 1)] += position - below
        return rows

    return matrix(fine.shape[-2]) @ fine @ matrix(fine.shape[-1]).T


def test_features_of_fine_decoders_are_the_means_of_whole_cells() -> None:
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    assert _reduced(fine, [2, 2]).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert _reduced(fine, [4, 4]) is fine


def test_features_of_patch_14_keep_their_places() -> None:
    # 16 cells become 7; a linear ramp over the picture stays the same ramp, border cells apart.
    ramp = ((torch.arange(16.0) + 0.5) / 16).expand(1, 1, 16, 16)
    reduced = _reduced(ramp, [7, 7])
    expected = (torch.arange(7.0) + 0.5) / 7
    torch.testing.assert_close(reduced, expected.expand(1, 1, 7, 7))


@pytest.mark.parametrize(
    ("decoder", "encoder"), [*FAMILIES, ("dpt", "vit_small_patch14_reg4_dinov2")]
)
def test_gradient_of_both_outputs_reaches_the_encoder(
    built: Callable[[str, str], Segmenter], decoder: str, encoder: str
) -> None:
    network = copy.deepcopy(built(decoder, encoder)).train()
    images = pictures(45, 61)
    for part in (0, 1):
        network.zero_grad()
        network(images)[part].square().mean().backward()
        gradients = [p.grad for p in network.encoder.parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients[:1])


def test_batch_norm_over_one_pooled_image_is_named(
    built: Callable[[str, str], Segmenter],
) -> None:
    network = copy.deepcopy(built("deeplabv3plus", "resnet18")).train()
    with pytest.raises(ConfigError, match=r"at least 2 images per device.*got 1.*--batch-size"):
        network(pictures(64, 64, count=1))
    assert network.eval()(pictures(64, 64, count=1)).logits.shape == (1, NUM_CLASSES, 64, 64)


def test_batch_norm_over_one_crop_of_one_cell_is_named(
    built: Callable[[str, str], Segmenter],
) -> None:
    """The encoder's last stage has one cell of 32 pixels, whatever the decoder."""
    network = copy.deepcopy(built("fpn", "resnet18")).train()
    with pytest.raises(ConfigError, match=r"each image is a single cell; .* --crop above 32"):
        network(pictures(32, 32, count=1))
    assert network(pictures(33, 32, count=1)).logits.shape == (1, NUM_CLASSES, 33, 32)


def test_other_value_errors_are_not_swallowed(built: Callable[[str, str], Segmenter]) -> None:
    network = copy.deepcopy(built("fpn", "mobilenetv2_100"))

    def broken(_: Tensor) -> Tensor:
        message = "another fault"
        raise ValueError(message)

    network.encoder.forward = broken
    with pytest.raises(ValueError, match="another fault"):
        network(pictures(64, 64))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8)])
def test_wrong_shapes_are_refused(
    built: Callable[[str, str], Segmenter], shape: tuple[int, ...]
) -> None:
    network = built("fpn", "mobilenetv2_100")
    # Outside the tests there is no shape checker, so the function's own check is what counts.
    forward = getattr(Segmenter.forward, "__wrapped__", Segmenter.forward)
    with pytest.raises(InputError, match=r"expected shape \(B, 3, H, W\)"):
        forward(network, torch.zeros(shape))


@pytest.mark.parametrize(("decoder", "encoder"), FAMILIES)
def test_channels_last_and_autocast(
    built: Callable[[str, str], Segmenter], decoder: str, encoder: str
) -> None:
    network = copy.deepcopy(built(decoder, encoder))
    images = pictures(45, 61)
    with torch.no_grad():
        expected = network(images).logits
        network = network.to(memory_format=torch.channels_last)
        other = network(images.to(memory_format=torch.channels_last)).logits
        torch.testing.assert_close(other, expected, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = network(images)
    assert low.logits.shape == expected.shape
    assert low.features.isfinite().all()
    assert (low.logits.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_seed_alone_decides_the_weights() -> None:
    random.seed(0)
    torch.manual_seed(0)
    first = build_segmenter("fpn", "resnet18", "none", 3, seed=7).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    second = build_segmenter("fpn", "resnet18", "none", 3, seed=7).state_dict()
    third = build_segmenter("fpn", "resnet18", "none", 3, seed=8).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


@pytest.mark.parametrize(
    ("decoder", "encoder", "mean", "std"),
    [
        ("fpn", "mobilenetv2_100", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("segformer", "mit_b0", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("dpt", "vit_tiny_patch16_224", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_normalisation_is_the_encoder_s(
    built: Callable[[str, str], Segmenter],
    decoder: str,
    encoder: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    network = built(decoder, encoder)
    assert (network.mean, network.std) == (mean, std)


def test_names_of_both_libraries_are_accepted() -> None:
    plain = build_segmenter("fpn", "resnet18", "none", 3).state_dict()
    prefixed = build_segmenter("FPN", "tu-resnet18", "none", 3).state_dict()
    assert all(torch.equal(plain[key], prefixed[key]) for key in plain)


@pytest.mark.parametrize(
    ("decoder", "encoder", "message"),
    [
        ("deeplab", "resnet18", r"there is no 'deeplab'; did you mean .*deeplabv3plus.*segformer"),
        ("fpn", "resnet5O", r"there is no 'resnet5O'; did you mean .*resnet50.*list_models"),
        ("fpn", "resnet18.a9_in1k", r"there is no 'resnet18.a9_in1k'; did you mean .*resnet18.a1"),
        ("fpn", "timm-efficientnet-b0", r"did you mean .*efficientnet_b0"),
        ("fpn", "zzzzzz", r"there is no 'zzzzzz'; all: timm.list_models"),
        ("fpn", "vit_tiny_patch16_224", r"fpn cannot work with .*vision.*--decoder dpt"),
        ("dpt", "resnet18", r"dpt cannot work with --encoder resnet18.*needs a vision transformer"),
        ("dpt", "mit_b0", r"dpt cannot work with --encoder mit_b0.*needs a vision transformer"),
        ("deeplabv3plus", "mit_b0", r"deeplabv3plus cannot work with --encoder mit_b0"),
    ],
)
def test_names_that_do_not_work_are_answered_with_some_that_do(
    decoder: str, encoder: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_segmenter(decoder, encoder, "none", 3)


def test_there_must_be_a_class() -> None:
    with pytest.raises(ConfigError, match=r"num_classes: expected at least 1, got 0"):
        build_segmenter("fpn", "resnet18", "none", 0)
