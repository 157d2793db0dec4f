import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from agmm.errors import WeightsError
from agmm.models import weights
from agmm.models.segmenter import build_segmenter
from agmm.models.weights import WeightsReport, fill, load_encoder_weights, read_tensors


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    """A whole classification network of timm, with weights that nothing else has."""
    torch.manual_seed(123)
    model = timm.create_model("resnet18", num_classes=7)
    return {key: value.clone() for key, value in model.state_dict().items()}


def encoder_equals(encoder: nn.Module, checkpoint: dict[str, Tensor]) -> bool:
    return all(
        torch.equal(value, checkpoint[key.removeprefix("model.")])
        for key, value in encoder.state_dict().items()
    )


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "fpn", "unet"])
def test_imagenet_weights_from_the_folder_fill_the_whole_encoder(
    shared: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    monkeypatch.setenv("AGMM_WEIGHTS", str(shared / "weights"))
    network = build_segmenter(decoder, "mobilenetv2_100", "imagenet", 21)
    report = network.weights_report
    assert set(report.matched) == set(network.encoder.state_dict())
    assert (report.missing, report.mismatched) == ((), ())
    # What lies behind the last stage, and nothing else, has no place in an encoder.
    assert {name.split(".")[0] for name in report.unexpected} == {"conv_head", "bn2", "classifier"}
    assert "mobilenetv2_100.safetensors" in str(report)


def test_imagenet_encoder_computes_what_the_classifier_computes(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGMM_WEIGHTS", str(shared / "weights"))
    network = build_segmenter("fpn", "mobilenetv2_100", "imagenet", 21).eval()
    path = shared / "weights" / "mobilenetv2_100.safetensors"
    classifier: Any = timm.create_model("mobilenetv2_100", checkpoint_path=str(path)).eval()
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = classifier.blocks(classifier.bn1(classifier.conv_stem(images)))
        stages = network.encoder(images)
    torch.testing.assert_close(stages[-1], expected)


@pytest.mark.parametrize(
    ("prefix", "nest"),
    [
        ("", None),
        ("", "model"),
        ("module.", "state_dict"),
        ("model.encoder.model.", "state_dict"),
        ("encoder.", None),
    ],
)
def test_checkpoints_of_many_kinds_are_read(
    tmp_path: Path, checkpoint: dict[str, Tensor], prefix: str, nest: str | None
) -> None:
    named: dict[str, Any] = {f"{prefix}{key}": value for key, value in checkpoint.items()}
    named |= {"decoder.conv1.weight": torch.zeros(2)} if prefix else {}
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "optimiser": {"lr": 0.1}, nest: named} if nest else named, path)
    network = build_segmenter("fpn", "resnet18", str(path), 3)
    report = network.weights_report
    assert encoder_equals(network.encoder, checkpoint)
    assert report.source == str(path)
    assert set(report.matched) == set(network.encoder.state_dict())
    assert {name.removeprefix(prefix) for name in report.unexpected} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("decoder", "encoder"), [("unet", "mit_b0"), ("upernet", "convnext_atto"), ("fpn", "resnet18")]
)
def test_own_checkpoint_gives_the_encoder_back(tmp_path: Path, decoder: str, encoder: str) -> None:
    trained = build_segmenter(decoder, encoder, "none", 3, seed=5)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in trained.state_dict().items()}}, path)
    network = build_segmenter("segformer", encoder, str(path), 9, seed=6)
    states = network.encoder.state_dict(), trained.encoder.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    assert network.weights_report.unexpected == ()


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [("fpn", "convnext_atto"), ("dpt", "vit_tiny_patch16_224"), ("fpn", "regnety_002")],
)
def test_flattened_names_of_feature_extractors_are_matched(
    tmp_path: Path, decoder: str, encoder: str
) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model(encoder).state_dict(), path)
    report = build_segmenter(decoder, encoder, str(path), 3).weights_report
    assert (report.missing, report.mismatched) == ((), ())


def test_every_tensor_is_accounted_for(checkpoint: dict[str, Tensor]) -> None:
    encoder = build_segmenter("fpn", "resnet18", "none", 3).encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    offered = {key: value for key, value in checkpoint.items() if key != "bn1.weight"}
    offered["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    report = fill(encoder, offered, "hand")
    assert report.missing == ("model.bn1.weight",)
    assert report.mismatched == ("model.conv1.weight (64, 4, 7, 7) for (64, 3, 7, 7)",)
    assert report.unexpected == ("fc.weight", "fc.bias")
    everything = {*report.matched, *report.missing, "model.conv1.weight"}
    assert everything == set(before)
    for key in ("model.bn1.weight", "model.conv1.weight"):
        assert torch.equal(encoder.state_dict()[key], before[key])
    assert str(report).splitlines() == [
        f"encoder weights: hand: {len(report.matched)} tensors matched",
        "  1 missing, left random: model.bn1.weight",
        "  1 other shape, left random: model.conv1.weight (64, 4, 7, 7) for (64, 3, 7, 7)",
        "  2 in the source only: fc.weight, fc.bias",
    ]


def test_gradients_survive_filling(checkpoint: dict[str, Tensor]) -> None:
    encoder = build_segmenter("fpn", "resnet18", "none", 3).encoder
    fill(encoder, checkpoint, "hand")
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert all(parameter.is_leaf for parameter in encoder.parameters())


def test_weights_of_another_network_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), path)
    encoder = build_segmenter("fpn", "resnet18", "none", 3).encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    # 20 convolutions and 20 BatchNorm layers of 4 tensors each.
    message = r"other.pth.*only \d+ of its 100 tensors.*model\.conv1\.weight.*conv_stem\.weight"
    with pytest.raises(WeightsError, match=message):
        load_encoder_weights(encoder, str(path), "resnet18")
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path, bare = tmp_path / "trace", tmp_path / "evil.pth", tmp_path / "bare.pt"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "x": Malicious(trace)}, path)
    bare.write_bytes(pickle.dumps(Malicious(trace)))
    for file in (path, bare):
        with pytest.raises(WeightsError, match=rf"{file.name}.*not loaded.*save_file"):
            read_tensors(file)
        assert not trace.exists()
    pickle.loads(bare.read_bytes())  # the file would have done it
    assert trace.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors", "empty.pth", "empty.safetensors"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = {"weight": torch.zeros(100, 100)}
    if path.suffix == ".pth":
        torch.save(whole, path)
    else:
        safetensors.torch.save_file(whole, path)
    keep = 0 if name.startswith("empty") else 2000
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=rf"{name}.*(download it again|damaged)"):
        read_tensors(path)


@pytest.mark.parametrize("content", [{}, {"a": 1, "b": {"c": "text"}}, [torch.zeros(2)]])
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "nothing.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"nothing.pth: expected a dictionary of named tensors"):
        read_tensors(path)


def test_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"'imagenet', 'none' or a file.*no file imagenets"):
        build_segmenter("fpn", "resnet18", "imagenets", 3)


def refuse(*_: object, **__: object) -> None:
    message = "no route to host"
    raise OSError(message)


@pytest.mark.parametrize("encoder", ["resnet18", "mit_b0"])
@pytest.mark.parametrize("folder", [True, False])
def test_without_folder_and_hub_both_ways_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, folder: bool
) -> None:
    monkeypatch.delenv("AGMM_WEIGHTS", raising=False)
    if folder:
        monkeypatch.setenv("AGMM_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    looked = f"AGMM_WEIGHTS is {tmp_path if folder else 'not set'}.*no route to host"
    remedy = rf"contains {encoder}\.safetensors.*network.*--encoder-weights none or .*FILE"
    with pytest.raises(WeightsError, match=rf"{looked}.*{remedy}"):
        build_segmenter("fpn", encoder, "imagenet", 3)


def test_hub_weights_are_matched_like_files(
    monkeypatch: pytest.MonkeyPatch, checkpoint: dict[str, Tensor]
) -> None:
    asked: list[str] = []

    def hub(name: str) -> nn.Module:
        asked.append(name)
        model: nn.Module = timm.create_model("resnet18", num_classes=7)
        model.load_state_dict(checkpoint)
        return model

    monkeypatch.delenv("AGMM_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_hub_model", hub)
    network = build_segmenter("fpn", "resnet18.a1_in1k", "imagenet", 3)
    assert asked == ["resnet18.a1_in1k"]
    assert encoder_equals(network.encoder, checkpoint)
    assert network.weights_report.source == "hub, resnet18.a1_in1k"


def test_cached_hub_weights_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "a/file")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    made: list[dict[str, Any]] = []

    def create(name: str, **options: object) -> nn.Module:
        made.append({"name": name, **options})
        return nn.Identity()

    monkeypatch.setattr("timm.create_model", create)
    weights._hub_model("resnet18")
    assert made == [{"name": "resnet18", "pretrained": True}]


def test_no_weights_leave_the_encoder_alone() -> None:
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    assert load_encoder_weights(layer, "none", "layer") == WeightsReport("none")
    assert torch.equal(layer.weight, before)
