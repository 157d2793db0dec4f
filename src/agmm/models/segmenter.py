"""A segmentation network of any decoder and encoder that also returns its decoder's features."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from agmm.errors import ConfigError, InputError
from agmm.models.weights import WeightsReport, load_encoder_weights
from agmm.tensors import Features, Images, Logits

FEATURE_STRIDE = 4
"""Finest stride of the features; decoders that are finer are averaged down to it."""

_PATCHES_PER_PAD = 2  # DPT halves the grid of patches once, so the grid must be even
_PAN_MINIMUM = 128  # PAN pools the stride-16 map three times
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # what Inception was trained with

Triple = tuple[float, float, float]


class SegmenterOutput(NamedTuple):
    """What a `Segmenter` returns.

    Attributes:
        logits: Class scores before the softmax, at the images' size.
        features: The decoder's features, ``ceil(H / stride)`` by ``ceil(W / stride)`` cells.
    """

    logits: Logits
    features: Features


class Segmenter(nn.Module):
    """Encoder, decoder and head in a row, for images of any size.

    Images are padded at the right and the bottom with zeros (the mean colour) to the multiple that
    the network needs, and the padding is cut from both outputs. Logits are upsampled bilinearly.

    Args:
        encoder: Module from images to its stages' features.
        decoder: Module from these to one map of features.
        head: Module from this map to logits at the same stride.
        num_classes: Number of classes K.
        pad_to: Heights and widths are padded to a multiple of it, in pixels.
        minimum: ... and to at least this many pixels.
        mean: What the encoder expects to be subtracted, for images in 0..1.
        std: What it expects to be divided by afterwards.

    Attributes:
        weights_report: What became of the encoder's weights.
        feature_channels: Number of channels D of the features.
        feature_stride: Pixels per cell of the features.

    Raises:
        ConfigError: From `forward`, when a decoder with global pooling is trained on one image.

    Example:
        >>> network = build_segmenter("fpn", "resnet18", "none", num_classes=3).eval()
        >>> logits, features = network(torch.zeros(1, 3, 45, 61))
        >>> tuple(logits.shape), tuple(features.shape)
        ((1, 3, 45, 61), (1, 128, 12, 16))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        head: nn.Module,
        *,
        num_classes: int,
        pad_to: int,
        minimum: int = 1,
        mean: Triple = _IMAGENET[0],
        std: Triple = _IMAGENET[1],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.num_classes = num_classes
        self.mean = mean
        self.std = std
        self.weights_report = WeightsReport("none")
        self._pad_to = pad_to
        self._minimum = minimum
        self.feature_channels, self.feature_stride = self._probe()

    def forward(self, images: Images) -> SegmenterOutput:
        """Segment a batch of images.

        Args:
            images: Normalised with `mean` and `std`, shape (B, 3, H, W), any H and W.

        Returns:
            Logits (B, K, H, W) and features (B, D, ceil(H/stride), ceil(W/stride)).

        Raises:
            InputError: If the images are not (B, 3, H, W).
            ConfigError: If BatchNorm sees one value per channel: training with one image.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}; "
                f"use RGB images and add the batch axis"
            )
        height, width = images.shape[-2:]
        padded = pad(images, (0, self._padding(width), 0, self._padding(height)))
        decoded = self._decode(padded)
        logits = interpolate(
            self.head(decoded), size=padded.shape[-2:], mode="bilinear", align_corners=False
        )
        features = _reduced(decoded, [side // self.feature_stride for side in padded.shape[-2:]])
        rows, columns = -(-height // self.feature_stride), -(-width // self.feature_stride)
        return SegmenterOutput(logits[..., :height, :width], features[..., :rows, :columns])

    def _padding(self, side: int) -> int:
        target = max(side, self._minimum)
        return target - side + -target % self._pad_to

    def _decode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        try:
            encoded = self.encoder(images)
            # Vision transformers also give their prefix tokens, as DPT wants them.
            inputs = encoded if isinstance(encoded, tuple) else (encoded,)
            decoded: Tensor = self.decoder(*inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"batch size: expected at least 2 images per device for training, got "
                f"{len(images)}: this network normalises over the batch where each image is a "
                f"single cell; raise --batch-size, or choose the decoder fpn or segformer and a "
                f"--crop above 32"
            ) from error
        return decoded

    @torch.no_grad()
    def _probe(self) -> tuple[int, int]:
        """Channels and stride of the features, from a small picture of zeros."""
        size = self._padding(1) + 1
        training = self.training
        self.eval()
        decoded = self._decode(torch.zeros(1, 3, size, 2 * size))
        self.train(training)
        return decoded.shape[1], max(FEATURE_STRIDE, size // decoded.shape[2])


def build_segmenter(
    decoder: str, encoder: str, encoder_weights: str, num_classes: int, *, seed: int = 0
) -> Segmenter:
    """Build a segmentation network by name.

    Args:
        decoder: A decoder of segmentation-models-pytorch, in lower case: ``deeplabv3plus``,
            ``fpn``, ``upernet``, ``segformer``, ``unet``, ``pan``, ``dpt``, ... ``dpt`` goes with
            the vision transformers of timm, the others with networks that have several stages.
        encoder: An encoder of timm (``mobilenetv2_100``, ``vit_small_patch14_dinov2.lvd142m``) or,
            if timm has none of this name, of segmentation-models-pytorch (``mit_b0``).
        encoder_weights: ``"imagenet"``, ``"none"``, or the path of a weights file; see
            `agmm.models.weights.load_encoder_weights`.
        num_classes: Number of classes, at least 1.
        seed: Seed of all weights that are not read; PyTorch's global generator stays untouched.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        ConfigError: If a name is unknown, or the decoder cannot work with the encoder.
        WeightsError: If the encoder's weights cannot be found, read safely, or matched.

    Example:
        >>> network = build_segmenter("unet", "resnet18", "none", num_classes=2)
        >>> network.feature_stride, network.feature_channels
        (4, 16)
        >>> print(network.weights_report)
        encoder weights: none (random initialisation)
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes: expected at least 1, got {num_classes}")
    decoder = decoder.lower()
    name = encoder.removeprefix("tu-")
    resolved = _resolve_encoder(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = _assemble(decoder, resolved, num_classes)
        except ConfigError:
            raise
        except Exception as error:  # timm raises what its models happen to raise
            raise ConfigError(
                f"--decoder {decoder} cannot work with --encoder {encoder}: "
                f"{type(error).__name__}: {error}; {_advice(decoder)}"
            ) from error
    network.weights_report = load_encoder_weights(network.encoder, encoder_weights, name)
    return network


def _assemble(decoder: str, encoder: str, num_classes: int) -> Segmenter:
    import segmentation_models_pytorch as smp

    architectures: dict[str, Any] = smp.MODEL_ARCHITECTURES_MAPPING
    if decoder not in architectures:
        raise ConfigError(
            f"--decoder: there is no {decoder!r}; {_close(decoder, architectures)}"
            f"all: {', '.join(sorted(architectures))}"
        )
    model = architectures[decoder](
        encoder_name=encoder,
        encoder_weights=None,
        classes=num_classes,
        **_options(decoder, encoder),
    )
    if decoder == "dpt":
        _rebuild_dpt(model)
        head = model.segmentation_head.head
        pad_to = _PATCHES_PER_PAD * model.encoder.output_stride
    else:
        head = model.segmentation_head[0]  # without the upsampling, which `forward` does
        pad_to = model.encoder.output_stride
    mean, std = _normalisation(model.encoder, encoder)
    return Segmenter(
        model.encoder,
        model.decoder,
        head,
        num_classes=num_classes,
        pad_to=math.lcm(pad_to, FEATURE_STRIDE),
        minimum=_PAN_MINIMUM if decoder == "pan" else 1,
        mean=mean,
        std=std,
    )


def _options(decoder: str, encoder: str) -> dict[str, Any]:
    """What lets an encoder of fixed input size take any other."""
    if decoder == "dpt":
        return {"dynamic_img_size": True, "decoder_readout": "ignore"}
    return {"strict_img_size": False} if encoder.startswith("tu-swin") else {}


def _rebuild_dpt(model: Any) -> None:
    """Give DPT the decoder that its paper has for patches of 16 pixels, whatever the patch.

    The library derives the factors 4, 2, 1, 1/2 between the levels from the patch size and rounds
    them, after which the levels of patch 14 no longer fit each other.
    """
    from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder

    encoder = model.encoder
    model.decoder = DPTDecoder(
        encoder_out_channels=encoder.out_channels,
        encoder_output_strides=[16] * len(encoder.out_channels),
        encoder_has_prefix_tokens=encoder.has_prefix_tokens,
        readout="cat" if encoder.has_prefix_tokens else "ignore",
    )
    model.initialize()


def _normalisation(encoder: nn.Module, name: str) -> tuple[Triple, Triple]:
    config: Any = getattr(getattr(encoder, "model", None), "pretrained_cfg", None)
    if config:
        return tuple(config["mean"]), tuple(config["std"])
    return _HALF if name.startswith("inception") else _IMAGENET


def _resolve_encoder(name: str) -> str:
    """The name of an encoder as segmentation-models-pytorch wants it."""
    import timm
    from segmentation_models_pytorch.encoders import get_encoder_names

    # Its `timm-` names are deprecated copies of what timm offers under its own names.
    native = [known for known in get_encoder_names() if not known.startswith("timm-")]
    tagged = "." in name
    if name in timm.list_models(pretrained=True) if tagged else timm.is_model(name):
        return f"tu-{name}"
    if name in native:
        return name
    known = [*timm.list_models(pretrained=tagged), *native]
    raise ConfigError(
        f"--encoder: there is no {name!r}; {_close(name, known)}all: timm.list_models() and "
        f"segmentation_models_pytorch.encoders.get_encoder_names()"
    )


def _close(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, sorted(set(known)), n=5)
    return f"did you mean {', '.join(matches)}? " if matches else ""


def _advice(decoder: str) -> str:
    if decoder == "dpt":
        return (
            "dpt needs a vision transformer of timm that takes images of any size, for example "
            "vit_small_patch14_dinov2.lvd142m"
        )
    return (
        "choose an encoder with several stages, for example resnet50, or convnext_tiny or mit_b0 "
        "with --decoder fpn, upernet, segformer or unet; vision transformers go with --decoder dpt"
    )


def _reduced(features: Features, size: list[int]) -> Float[Tensor, "b d rows columns"]:
    """Features at a coarser grid: the mean of each cell, where cells are whole."""
    (rows, columns), (height, width) = size, features.shape[-2:]
    if (rows, columns) == (height, width):
        return features
    if height % rows == 0 and width % columns == 0:
        return avg_pool2d(features, (height // rows, width // columns))
    # Patches of 14 pixels: 16 cells become 7, close enough to 2:1 for the bilinear filter.
    return interpolate(features, size=size, mode="bilinear", align_corners=False)
