"""A multi-label classifier on any timm encoder that keeps its class scores as a map."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from agmm.errors import ConfigError, InputError, WeightsError
from agmm.models.weights import WeightsReport, fill, load_encoder_weights, read_tensors
from agmm.tensors import Images, ValidPixels

Triple = tuple[float, float, float]
ClassMaps = Float[Tensor, "b k h w"]

_PROBE_CELLS = 4  # height of the map that the probe asks for; its width is twice that
_RUN_FILES = ("weights.safetensors", "checkpoints/last.ckpt")
_AVERAGED = "averaged.module."  # the weights of a segmentation run that are evaluated
# What lets the vision transformers of timm take images of any size; the others need nothing.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


class Classifier(nn.Module):
    """Encoder, 1x1 convolution, mean: the score of a class is the mean of its map.

    A linear classifier after global average pooling, taken before the pooling instead: its maps
    are the class activation maps of Zhou et al., "Learning Deep Features for Discriminative
    Localization", CVPR 2016. Images are padded at the right and the bottom with zeros (the mean
    colour) to the multiple that the encoder needs; the cells of the padding are cut off.

    Args:
        encoder: A timm network without head and pooling.
        num_classes: Number of classes K.
        mean: What the encoder expects to be subtracted, for images in 0..1.
        std: What it expects to be divided by afterwards.

    Attributes:
        stride: Pixels per cell of the maps.
        weights_report: What became of the encoder's weights.

    Raises:
        ConfigError: If the encoder's last features are no map of cells.

    Example:
        >>> network = build_classifier("resnet10t", "none", num_classes=3).eval()
        >>> network.stride, tuple(network(torch.zeros(1, 3, 45, 61)).shape)
        (16, (1, 3))
        >>> tuple(network.maps(torch.zeros(1, 3, 45, 61)).shape)
        (1, 3, 3, 4)
    """

    def __init__(self, encoder: nn.Module, num_classes: int, *, mean: Triple, std: Triple) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.num_classes = num_classes
        self.mean, self.std = mean, std
        self.weights_report = WeightsReport("none")
        info = getattr(encoder, "feature_info", None)
        self._pad_to: int = info[-1]["reduction"] if info else 32
        channels, self.stride = self._probe()
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Images, valid: ValidPixels | None = None) -> Float[Tensor, "b k"]:
        """Scores of the classes before the sigmoid.

        Args:
            images: Normalised with `mean` and `std`, shape (B, 3, H, W), any H and W.
            valid: (B, H, W), False = padding, which does not count; None = all. Of an image
                without a valid pixel every pixel counts.

        Returns:
            (B, K), the mean of each map, its cells weighted with their share of valid pixels.

        Raises:
            InputError: If the images are not (B, 3, H, W).
        """
        maps = self.maps(images)
        if valid is None:
            return maps.mean((2, 3))
        # The last cells may reach beyond the image: only their pixels inside of it are looked at.
        share = avg_pool2d(valid[:, None].to(maps.dtype), self.stride, ceil_mode=True)
        empty = (share == 0).all(dim=2, keepdim=True).all(dim=3, keepdim=True)
        share = share + empty
        return (maps * share).sum((2, 3)) / share.sum((2, 3))

    def maps(self, images: Images) -> ClassMaps:
        """Scores of the classes in every cell.

        Args:
            images: As in `forward`.

        Returns:
            (B, K, ceil(H / stride), ceil(W / stride)).

        Raises:
            InputError: If the images are not (B, 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}; "
                f"use RGB images and add the batch axis"
            )
        height, width = images.shape[-2:]
        padded = pad(images, (0, -width % self._pad_to, 0, -height % self._pad_to))
        rows, columns = -(-height // self.stride), -(-width // self.stride)
        maps: Tensor = self.head(self._features(padded))
        return maps[..., :rows, :columns]

    def _features(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        """The encoder's last features as channels over cells, whatever timm makes of them."""
        features: Tensor = self.encoder.forward_features(images)
        if features.ndim == 3:  # tokens: (B, prefix + h * w, D)
            cells = features[:, getattr(self.encoder, "num_prefix_tokens", 0) :]
            # Height and width keep their ratio: (h * w) * (H / W) = h * h.
            rows = round(math.sqrt(cells.shape[1] * images.shape[2] / images.shape[3]))
            return cells.transpose(1, 2).reshape(len(cells), cells.shape[2], rows, -1)
        if features.shape[1] == self.encoder.num_features:
            return features
        return features.permute(0, 3, 1, 2)  # (B, h, w, D)

    @torch.no_grad()
    def _probe(self) -> tuple[int, int]:
        """Channels and stride of the features, from a small picture of zeros."""
        size = _PROBE_CELLS * self._pad_to
        training = self.encoder.training
        self.encoder.eval()
        features = self._features(torch.zeros(1, 3, size, 2 * size))
        self.encoder.train(training)
        rows, columns = features.shape[2:]
        if columns != 2 * rows or size % rows:
            raise ConfigError(
                f"its features for {size} x {2 * size} pixels are {rows} x {columns} cells, which "
                f"are no regular grid"
            )
        return features.shape[1], size // rows


def build_classifier(
    encoder: str, encoder_weights: str, num_classes: int, *, output_stride: int = 16, seed: int = 0
) -> Classifier:
    """Build a classifier by the name of its encoder.

    Args:
        encoder: A network of timm, for example ``mobilenetv2_100`` or
            ``vit_small_patch14_dinov2.lvd142m``; also with the ``tu-`` in front that
            segmentation-models-pytorch gives it.
        encoder_weights: ``"imagenet"``, ``"none"``, the path of a weights file, or the folder of an
            earlier run of ``agmm train`` or of a classifier, whose encoder is taken.
        num_classes: Number of classes K, at least 1.
        output_stride: Pixels per cell of the maps, 8, 16 or 32, where timm offers the choice
            (dilated convolutions); other networks keep their own stride, see `Classifier.stride`.
        seed: Seed of all weights that are not read; PyTorch's global generator stays untouched.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        ConfigError: If there is no such encoder, or it gives no map of features.
        WeightsError: If the encoder's weights cannot be found, read safely, or matched.

    Example:
        >>> network = build_classifier("resnet10t", "none", num_classes=3, output_stride=8)
        >>> network.stride
        8
    """
    import timm

    if num_classes < 1:
        raise ConfigError(f"num_classes: expected at least 1, got {num_classes}")
    encoder = encoder.removeprefix("tu-")
    if not timm.is_model(encoder):
        raise ConfigError(
            f"--classifier.encoder: timm has no {encoder!r}, and the classifier of the tags needs "
            f"a network of timm; give one of timm.list_models(), for example resnet50"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = _assemble(encoder, num_classes, output_stride)
        except Exception as error:  # timm raises what its models happen to raise
            raise ConfigError(
                f"--classifier.encoder: {encoder} gives no map of features for pictures of any "
                f"size ({type(error).__name__}: {error}); choose another, for example resnet50"
            ) from error
    network.weights_report = _fill_encoder(network.encoder, encoder_weights, encoder)
    return network


def _assemble(name: str, num_classes: int, output_stride: int) -> Classifier:
    encoder = _create(name, output_stride)
    config: Any = encoder.pretrained_cfg
    return Classifier(encoder, num_classes, mean=tuple(config["mean"]), std=tuple(config["std"]))


def _create(name: str, output_stride: int) -> Any:
    """The network without head, with the first of the options that its class knows."""
    import timm

    attempts: list[dict[str, Any]] = [{"output_stride": output_stride}, *_ANY_SIZE]
    for options in attempts:
        try:
            return timm.create_model(name, num_classes=0, global_pool="", **options)
        except (TypeError, NotImplementedError, AssertionError):
            continue  # "unexpected keyword", or a stride that this network cannot have
    return timm.create_model(name, num_classes=0, global_pool="")


def weights_file(source: str) -> Path | None:
    """Which file ``encoder_weights`` of `build_classifier` names.

    Args:
        source: As there.

    Returns:
        The file, or that of the earlier run; None for ``"imagenet"`` and ``"none"``.

    Raises:
        WeightsError: If a folder is no run with weights.
    """
    if source in {"imagenet", "none"}:
        return None
    folder = Path(source)
    if not folder.is_dir():
        return folder
    found = [folder / file for file in _RUN_FILES if (folder / file).is_file()]
    if not found:
        raise WeightsError(
            f"encoder weights: expected a file or the folder of an earlier run, but {folder} holds "
            f"none of {', '.join(_RUN_FILES)}; give the --out folder of a training that has begun"
        )
    return found[0]


def _fill_encoder(encoder: nn.Module, source: str, name: str) -> WeightsReport:
    """Fill the encoder as `load_encoder_weights` does, or from the folder of an earlier run."""
    file = weights_file(source)
    if file is None or file == Path(source):
        return load_encoder_weights(encoder, source, name)
    tensors = read_tensors(file)
    averaged = {key: value for key, value in tensors.items() if key.startswith(_AVERAGED)}
    return fill(encoder, averaged or tensors, str(file))
