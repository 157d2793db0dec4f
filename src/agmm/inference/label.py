"""From a labelled picture to its posterior and pseudo labels."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from agmm.evaluation.calibration import CalibrationMap
from agmm.inference.network import needed_arguments, whole_input
from agmm.labels.supervision import Supervision, resize
from agmm.mixture import pseudo_labels
from agmm.mixture.pooling import enlarge
from agmm.models.segmenter import Segmenter
from agmm.shapes import IGNORE_INDEX, ImageArray, MaskArray


class LabelledPicture(NamedTuple):
    """What network and mixture say of a picture of which some pixels are labelled.

    Attributes:
        probs: Probabilities of the network, ``k H W``.
        posterior: Posterior of the mixture, ``k H W``, over the candidates.
        mask: Pseudo labels, ``H W``, uint8; 255 = below the threshold.
        confidence: Their confidence, ``H W``, 0 to 1.
        annotated: What the annotator labelled, ``H W``, uint8; 255 = nothing.
    """

    probs: Tensor
    posterior: Tensor
    mask: Tensor
    confidence: Tensor
    annotated: Tensor


@torch.inference_mode()
def label_picture(
    model: Segmenter,
    objective: nn.Module,
    image: ImageArray,
    given: Supervision,
    *,
    annotated: MaskArray | None = None,
    image_scale: float,
    threshold: float,
    calibration: CalibrationMap | None = None,
    device: torch.device | str,
) -> LabelledPicture:
    """Pseudo labels of one picture: argmax of p·γ over the candidates; given labels are kept.

    Guessed seeds help to find the centres of the classes, but may be mended like any other pixel.

    The whole picture goes through the network at once, since the centres of its classes come
    from all of its labelled pixels.

    Args:
        model: Network in eval mode.
        objective: Its objective in eval mode, with the contract of ``AGMMLoss``.
        image: RGB picture, ``H W 3``, uint8.
        given: Its labels, ``H W``, guessed seeds among them if there are any.
        annotated: What the annotator labelled, ``H W``, 255 = unlabelled, which is kept as it is;
            None = all the seeds of ``given``.
        image_scale: Factor on the picture's size that the network was trained with.
        threshold: Pixels of a lower confidence become 255; 0 to 1.
        calibration: What the confidence is to be, by what it is; None = as it is.
        device: Where network and objective are.

    Returns:
        Everything at the picture's size, on the CPU.
    """
    size = image.shape[:2]
    picture = whole_input(model, image, image_scale).to(device)
    scaled = resize(given, *picture.shape[2:])
    output = model(picture)
    candidates = torch.from_numpy(scaled.candidates)[None].to(device)
    seeds = torch.from_numpy(scaled.seeds)[None].long().to(device)
    needed = needed_arguments(objective, picture)
    result = objective(output.logits, output.features, seeds, candidates=candidates, **needed)
    probs = _enlarged(output.logits.float().softmax(1), picture, size)
    posterior = _enlarged(result.posterior.float(), picture, size)
    support = None if result.support is None else _enlarged(result.support.float(), picture, size)
    allowed = torch.from_numpy(given.candidates)
    masks, confidences = pseudo_labels(probs, posterior, allowed[None], support=support)
    mask, confidence = masks[0].to(torch.uint8), confidences[0]
    if calibration is not None:
        mapped = torch.from_numpy(calibration(confidence.numpy()))
        confidence = mapped.masked_fill(mask == IGNORE_INDEX, 0)
    mask = mask.masked_fill(confidence < threshold, IGNORE_INDEX)
    labelled = torch.from_numpy(given.seeds if annotated is None else annotated)
    keep = labelled != IGNORE_INDEX
    return LabelledPicture(
        probs=probs[0],
        posterior=posterior[0],
        mask=torch.where(keep, labelled, mask),
        confidence=torch.where(keep, 1.0, confidence),
        annotated=labelled,
    )


def _enlarged(
    maps: Float[Tensor, "1 k h w"], picture: Tensor, size: tuple[int, int]
) -> Float[Tensor, "1 k H W"]:
    """Maps at the size of the network's input, then of the picture."""
    maps = enlarge(maps, (picture.shape[2], picture.shape[3]))
    if maps.shape[2:] != size:
        maps = F.interpolate(maps, size, mode="bilinear")
    # The weights of the interpolation may sum up to a rounding above 1.
    return maps.clamp(0, 1).cpu()
