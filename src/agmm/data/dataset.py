"""Records as samples: random training views, and whole pictures for validation."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from agmm.data.transforms import Candidates, Seeds, Valid, normalise
from agmm.datasets.images import read_image
from agmm.datasets.records import Record
from agmm.labels.annotations import Annotation, DenseMask
from agmm.labels.forms import Form
from agmm.labels.guesses import with_guesses
from agmm.labels.rasterize import rasterize
from agmm.labels.supervision import Candidates as LabelCandidates
from agmm.labels.supervision import Supervision
from agmm.shapes import ImageArray, MaskArray


class Sample(TypedDict):
    """One training view; a batch has the same keys with a leading axis."""

    image: Tensor  # (3, H, W) float32, normalised
    seeds: Tensor  # (H, W) int64, 255 = unlabelled
    candidates: Tensor  # (K,) bool; (K, H, W) where the labels allow classes pixel by pixel
    valid: Tensor  # (H, W) bool, False = padding


def read_supervision(
    record: Record,
    forms: Sequence[Form],
    size: tuple[int, int],
    num_classes: int,
    *,
    complete: bool,
    background: int | None,
) -> Supervision:
    """Seeds and candidates of a record from those of ``forms`` that it has, and its guesses.

    A picture with a dense mask takes no guesses: there, 255 is a border or what is not to be
    counted, and not what nobody has labelled yet.

    Args:
        record: The picture, its labels and its guessed seeds.
        forms: Forms of label to read.
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        complete: The labels name every class of a picture.
        background: Index of the background; None if no class is one.

    Returns:
        Seeds (H, W) and candidates (K,) or (K, H, W); see `agmm.labels.rasterize.rasterize`.

    Raises:
        DataError: A label or guess cannot be read, does not fit, or contradicts another label.
    """
    return supervise(
        [record.labels[form]() for form in forms if form in record.labels],
        [guess() for guess in record.guesses],
        size,
        num_classes,
        complete=complete,
        background=background,
    )


def supervise(
    annotations: Sequence[Annotation],
    guesses: Sequence[MaskArray],
    size: tuple[int, int],
    num_classes: int,
    *,
    complete: bool,
    background: int | None,
) -> Supervision:
    """The same for labels and guesses that have been read.

    Args:
        annotations: The labels, each form at most once.
        guesses: Guessed seeds, (H, W).
        size: (H, W) of the picture in pixels.
        num_classes: K, 1..255.
        complete: The labels name every class of a picture.
        background: Index of the background; None if no class is one.

    Returns:
        Seeds (H, W) and candidates (K,) or (K, H, W).

    Raises:
        DataError: A label or guess does not fit, or contradicts another label.
    """
    given = rasterize(annotations, size, num_classes, complete=complete, background=background)
    if any(isinstance(annotation, DenseMask) for annotation in annotations):
        return given
    return with_guesses(given, guesses)


class TrainingViews(Dataset[Sample]):
    """Endless random views: position ``i`` is always the same view of the same picture.

    The pictures are shuffled anew in every pass. Order and augmentation follow from the seed
    and the position alone, so a training that is continued sees what it would have seen.

    Args:
        records: Training records.
        forms: Label forms to read.
        num_classes: Number of classes K.
        view: Transform of picture, seeds, candidates and valid pixels, as `training_view` gives.
        mean: Mean of the encoder's input per channel, 0 to 1.
        std: Standard deviation of the same.
        seed: Seed of order and views.
        complete: The labels name every class of a picture.
        background: Index of the background; None if no class is one. Where there is one and
            "boxes" is among the forms, every sample has candidates pixel by pixel, so that those
            of pictures with boxes and without fit into one batch.
    """

    def __init__(
        self,
        records: Sequence[Record],
        forms: Sequence[Form],
        num_classes: int,
        view: v2.Transform,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int,
        complete: bool,
        background: int | None,
    ) -> None:
        self.records, self.forms, self.num_classes = records, forms, num_classes
        self.view, self.mean, self.std = view, mean, std
        self.seed, self.complete, self.background = seed, complete, background
        self.by_pixel = "boxes" in forms and background is not None

    def __getitem__(self, position: int) -> Sample:
        passes, index = divmod(position, len(self.records))
        order = np.random.default_rng((self.seed, passes)).permutation(len(self.records))
        record = self.records[int(order[index])]
        image = read_image(record.image)
        given = read_supervision(
            record,
            self.forms,
            image.shape[:2],
            self.num_classes,
            complete=self.complete,
            background=self.background,
        )
        varying = _varying_planes(given.candidates)
        tensors = (
            tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
            Seeds(torch.from_numpy(given.seeds)[None]),
            Valid(torch.ones((1, *given.seeds.shape), dtype=torch.uint8)),
            *(Candidates(torch.from_numpy(given.candidates[[k]].view(np.uint8))) for k in varying),
        )
        # torchvision draws from torch's generator: give it a seed of its own, then put it back.
        # Not torch.manual_seed, which would seed the GPUs too, and they are not put back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(view_seed(self.seed, position))
            picture, seeds, valid, *planes = self.view(*tensors)
        return {
            "image": normalise(picture, self.mean, self.std),
            "seeds": seeds.as_subclass(Tensor).squeeze(0).long(),
            "candidates": self._candidates(given, dict(zip(varying, planes, strict=True)), seeds),
            "valid": valid.as_subclass(Tensor).squeeze(0).bool(),
        }

    def _candidates(self, given: Supervision, planes: dict[int, Tensor], seeds: Tensor) -> Tensor:
        """The candidates in the crop, from the crops of those planes that vary in the picture."""
        constant = given.candidates.reshape(self.num_classes, -1)[:, 0].copy()
        candidates = torch.from_numpy(constant)
        if not self.by_pixel:
            return candidates
        candidates = candidates[:, None, None].expand(-1, *seeds.shape[-2:])
        if planes:  # else the batch is the first to need the memory
            candidates = candidates.clone()
        for k, plane in planes.items():
            candidates[k] = plane.as_subclass(Tensor)[0]
        return candidates


def _varying_planes(candidates: LabelCandidates) -> list[int]:
    """The classes that may occur in a part of the picture: few of the K that there are."""
    if candidates.ndim == 1:
        return []
    return [k for k, plane in enumerate(candidates) if plane.any() and not plane.all()]


class WholePictures(Dataset[tuple[ImageArray, MaskArray]]):
    """Pictures at their full size with their dense masks, in the order of the records."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[ImageArray, MaskArray]:
        record = self.records[index]
        return read_image(record.image), dense_mask(record)


def dense_mask(record: Record) -> MaskArray:
    """The dense mask of a record that has one; 255 = not to be counted."""
    annotation = record.labels["dense"]()
    assert isinstance(annotation, DenseMask), f"{record.name}: 'dense' reads {annotation}"
    return annotation.mask


def view_seed(seed: int, position: int) -> int:
    """A 63-bit seed for one position; neighbours get unrelated ones."""
    words = np.random.SeedSequence((seed, position)).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])
