"""The classifier of tags: every kind of timm encoder, its maps, its weights."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agmm.errors import ConfigError, InputError, WeightsError
from agmm.models.classifier import Classifier, build_classifier


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    return build_classifier("resnet10t", "none", num_classes=3).eval()


@pytest.mark.parametrize(
    ("encoder", "stride"),
    [
        ("resnet10t", 16),  # channels first, dilated
        ("mobilenetv2_050", 16),
        ("mobilenetv3_small_050", 32),  # timm offers it no other stride
        ("vit_tiny_patch16_224", 16),  # one class token before the cells
        ("eva02_tiny_patch14_224", 14),
        ("swin_tiny_patch4_window7_224", 32),  # channels last
        ("pvt_v2_b0", 32),
    ],
)
def test_every_kind_of_encoder_gives_maps_of_pictures_of_any_size(
    encoder: str, stride: int
) -> None:
    model = build_classifier(encoder, "none", num_classes=2).eval()
    assert model.stride == stride
    with torch.no_grad():
        maps = model.maps(torch.randn(2, 3, 70, 41))
    assert maps.shape == (2, 2, math.ceil(70 / stride), math.ceil(41 / stride))
    assert maps.std() > 0


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_stride_is_the_one_asked_for(stride: int) -> None:
    assert build_classifier("resnet10t", "none", 2, output_stride=stride).stride == stride


def test_tokens_become_the_cells_that_they_stand_for() -> None:
    """Against a slow loop over the cells of a picture that is wider than high."""
    model = build_classifier("vit_tiny_patch16_224", "none", num_classes=2).eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        maps, tokens = model.maps(images), model.encoder.forward_features(images)
        for row in range(2):
            for column in range(3):
                token = tokens[:, 1 + 3 * row + column]  # the class token comes first
                torch.testing.assert_close(
                    maps[:, :, row, column], model.head(token[..., None, None])[..., 0, 0]
                )


def test_logits_are_the_mean_of_the_maps(resnet: Classifier) -> None:
    images = torch.randn(2, 3, 45, 61)
    with torch.no_grad():
        torch.testing.assert_close(resnet(images), resnet.maps(images).mean((2, 3)))


def test_padding_does_not_count(resnet: Classifier) -> None:
    images, valid = torch.randn(1, 3, 32, 64), torch.zeros(1, 32, 64, dtype=torch.bool)
    valid[:, :16, :24] = True  # a cell and a half of 2 x 4
    with torch.no_grad():
        cells = resnet.maps(images)[0, :, 0]
        expected = (cells[:, 0] + cells[:, 1] / 2) / 1.5
        torch.testing.assert_close(resnet(images, valid)[0], expected)


def test_padding_does_not_count_where_the_last_cells_reach_beyond_the_image(
    resnet: Classifier,
) -> None:
    """Against a slow loop over the cells; the last ones have 4 of 16 rows and 3 of 16 columns."""
    images, valid = torch.randn(2, 3, 36, 51), torch.zeros(2, 36, 51, dtype=torch.bool)
    valid[0, :32, :40] = True
    valid[1, 20:, 16:] = True
    with torch.no_grad():
        maps = resnet.maps(images)
        sums, weights = torch.zeros(2, 3), torch.zeros(2, 1)
        for row in range(3):
            for column in range(4):
                inside = valid[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                weight = inside.float().mean((1, 2))[:, None]
                sums += weight * maps[:, :, row, column]
                weights += weight
        torch.testing.assert_close(resnet(images, valid), sums / weights)


def test_without_a_valid_pixel_all_count(resnet: Classifier) -> None:
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = resnet(images, torch.zeros(1, 32, 32, dtype=torch.bool))
        torch.testing.assert_close(logits, resnet(images))


def test_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_classifier("resnet10t", "none", 3, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = build_classifier("resnet10t", "none", 3, seed=5).state_dict()
    other = build_classifier("resnet10t", "none", 3, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_normalisation_is_the_encoders_own() -> None:
    model = build_classifier("vit_tiny_patch16_224", "none", num_classes=2)
    assert model.mean == (0.5, 0.5, 0.5)
    assert model.std == (0.5, 0.5, 0.5)


def encoder_tensors(model: Classifier) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = model.encoder.state_dict()
    return tensors


def test_weights_of_a_file_and_of_an_earlier_classifier(resnet: Classifier, tmp_path: Path) -> None:
    save_file(encoder_tensors(resnet), tmp_path / "encoder.safetensors")
    folder = tmp_path / "classifier"
    folder.mkdir()
    save_file(resnet.state_dict(), folder / "weights.safetensors")
    wanted = encoder_tensors(resnet)
    for source in (tmp_path / "encoder.safetensors", folder):
        model = build_classifier("resnet10t", str(source), num_classes=7, seed=9)
        got = encoder_tensors(model)
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)
        assert not model.weights_report.missing


def test_weights_of_an_earlier_segmentation_run_are_the_averaged_ones(tiny_run: Path) -> None:
    model = build_classifier("mobilenetv3_small_050", str(tiny_run), num_classes=3)
    saved = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    name = "conv_stem.weight"
    got = encoder_tensors(model)[name]
    assert torch.equal(got, saved[f"averaged.module.encoder.model.{name}"])
    assert not torch.equal(got, saved[f"model.encoder.model.{name}"])


def test_imagenet_weights_are_found_and_complete(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMM_WEIGHTS", str(shared / "weights"))
    model = build_classifier("mobilenetv2_100", "imagenet", num_classes=3)
    assert not model.weights_report.missing
    assert model.weights_report.unexpected == ("classifier.bias", "classifier.weight")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds none of weights\.safetensors, checkpoints/last"):
        build_classifier("resnet10t", str(tmp_path), num_classes=3)


def test_an_encoder_may_be_named_as_the_segmenter_takes_it(resnet: Classifier) -> None:
    named = build_classifier("tu-resnet10t", "none", num_classes=3)
    assert torch.equal(named.head.weight, resnet.head.weight)


def test_an_unknown_encoder() -> None:
    with pytest.raises(ConfigError, match=r"timm has no 'mit_b0'"):
        build_classifier("mit_b0", "none", num_classes=3)


def test_an_encoder_of_one_image_size() -> None:
    with pytest.raises(ConfigError, match=r"mixer_s32_224 gives no map of features"):
        build_classifier("mixer_s32_224", "none", num_classes=3)


def test_an_encoder_without_a_grid() -> None:
    class Pooled(nn.Module):
        num_features = 4

        def forward_features(self, images: Tensor) -> Tensor:
            return images.new_zeros(len(images), 4, 1, 1)

    with pytest.raises(ConfigError, match="1 x 1 cells, which are no regular grid"):
        Classifier(Pooled(), 2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_no_classes() -> None:
    with pytest.raises(ConfigError, match="num_classes: expected at least 1, got 0"):
        build_classifier("resnet10t", "none", num_classes=0)


@pytest.mark.usefixtures("without_type_checks")
def test_images_without_a_batch_axis(resnet: Classifier) -> None:
    with pytest.raises(InputError, match=r"expected shape \(B, 3, H, W\), got \(3, 32, 32\)"):
        resnet(torch.zeros(3, 32, 32))
