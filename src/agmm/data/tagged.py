"""Random views of pictures with tags, for the training of a classifier."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from agmm.data.dataset import view_seed
from agmm.data.transforms import Valid, normalise
from agmm.datasets.images import read_image
from agmm.datasets.records import Record


class TaggedSample(TypedDict):
    """One training view; a batch has the same keys with a leading axis."""

    image: Tensor  # (3, H, W) float32, normalised
    targets: Tensor  # (K,) float32, 1 for the classes in the picture
    valid: Tensor  # (H, W) bool, False = padding


class TaggedViews(Dataset[TaggedSample]):
    """Endless random views: position ``i`` is always the same view of the same picture.

    As `agmm.data.dataset.TrainingViews`: order and views follow from the seed and the position.

    Args:
        records: Training records.
        targets: (n, K), uint8, 1 for the classes that the record's picture is tagged with.
        view: Transform of picture and valid pixels, as `training_view` gives.
        mean: Mean of the encoder's input per channel, 0 to 1.
        std: Standard deviation of the same.
        seed: Seed of order and views.
    """

    def __init__(
        self,
        records: Sequence[Record],
        targets: np.ndarray,
        view: v2.Transform,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        seed: int,
    ) -> None:
        self.records, self.targets, self.view = records, targets, view
        self.mean, self.std, self.seed = mean, std, seed

    def __getitem__(self, position: int) -> TaggedSample:
        passes, place = divmod(position, len(self.records))
        order = np.random.default_rng((self.seed, passes)).permutation(len(self.records))
        index = int(order[place])
        image = read_image(self.records[index].image)
        # As in TrainingViews: torch's generator gets a seed of its own and is put back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(view_seed(self.seed, position))
            picture, valid = self.view(
                tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)),
                Valid(torch.ones((1, *image.shape[:2]), dtype=torch.uint8)),
            )
        return {
            "image": normalise(picture, self.mean, self.std),
            "targets": torch.from_numpy(self.targets[index].astype(np.float32)),
            "valid": valid.as_subclass(Tensor).squeeze(0).bool(),
        }
