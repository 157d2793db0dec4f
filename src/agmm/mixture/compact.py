"""A batch on the feature grid with only those classes that can matter in each image.

A class that the labels rule out in the whole image, or that the mixture does not know while it
knows another candidate, has probability 0 at every cell. Leaving it out changes nothing, and what
the mixture costs then depends on the classes of the image and not on those of the data set. To find
the classes one must look at values, so on an accelerator, which would have to be waited for, and
while a graph is compiled, all classes stay.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from agmm.mixture import grid, inputs, losses
from agmm.mixture.kernels import Pixels, labelled_logits, pixel_logits
from agmm.mixture.pooling import any_pixel
from agmm.shapes import IGNORE_INDEX


class Classes(NamedTuple):
    """The classes that matter, `j` per image.

    Attributes:
        chosen: the classes of each image, `b j`; those that are there only to fill up come last.
        real: whether they are there for a reason, `b j`.
        total: number of all classes k.
    """

    chosen: Tensor
    real: Tensor
    total: int

    def take(self, values: Tensor) -> Tensor:
        """Values `b k *` of these classes, `b j *`."""
        return values[torch.arange(len(self.chosen), device=values.device)[:, None], self.chosen]

    def put(self, values: Tensor) -> Tensor:
        """Values `b j n` in their places among all classes, `b k n`; 0 (False) elsewhere."""
        everything = values.new_zeros(len(values), self.total, values.shape[2])
        return everything.scatter_(1, self.chosen.unsqueeze(2).expand_as(values), values)

    def rename(self, seeds: Tensor, labelled: Pixels | None) -> Tensor:
        """Seeds with the numbers of these classes; `labelled` are their pixels if they are few."""
        numbers = torch.arange(self.chosen.shape[1], device=seeds.device).expand_as(self.chosen)
        names = seeds.new_zeros(len(seeds), self.total).scatter_(1, self.chosen, numbers)
        if labelled is not None:
            seeds = seeds.clone()
            seeds[labelled] = names[labelled[0], seeds[labelled]]
            return seeds
        unlabelled = seeds == IGNORE_INDEX
        known = seeds.masked_fill(unlabelled, 0).flatten(1)
        return names.gather(1, known).view_as(seeds).masked_fill(unlabelled, IGNORE_INDEX)


class CompactGrid(NamedTuple):
    """As `Grid`, with j ≤ k classes per image where the mixture is concerned.

    Attributes:
        logits: mean logits of each cell, all classes, `b k n`.
        cross_entropy: mean cross-entropy of the labelled pixels, in nats.
        labelled_pixels: number of these.
        label_counts: number of these of each class, `k`; where cells are smaller than pixels, of
            their cells.
        features: features, `b d n`.
        shares: share of each class among the cell's labelled pixels, `b j n`.
        labelled: cells with a labelled pixel, `b n`.
        valid: cells with a valid pixel, `b n`.
        candidates: classes that the labels allow, `b j n`; at least one per cell.
        all_candidates: the same for all classes, `b k n` or `b k 1`; None = all.
        classes: which classes these j are; None = all.
    """

    logits: Tensor
    cross_entropy: Tensor
    labelled_pixels: Tensor
    label_counts: Tensor
    features: Tensor
    shares: Tensor
    labelled: Tensor
    valid: Tensor
    candidates: Tensor
    all_candidates: Tensor | None
    classes: Classes | None


def choose_classes(
    seeds: Int64[Tensor, "b H W"],
    candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None,
    centred: Bool[Tensor, " k"],
) -> Classes | None:
    """The classes that can have a probability above 0 somewhere in each image.

    Args:
        seeds: class of each pixel, 255 = unlabelled.
        candidates: classes that the labels allow in the image or at the pixel, None = all.
        centred: classes that the mixture has a running centre of.

    Returns:
        The classes; None if all matter in some image, or if finding out would wait for the device.

    Example:
        >>> given = torch.tensor([[True, False, True, False]])
        >>> centred = torch.tensor([True, True, True, False])
        >>> choose_classes(torch.full((1, 2, 2), 255), given, centred).chosen.tolist()
        [[0, 2]]
    """
    if not inputs.readable(seeds):
        return None
    present = _present(seeds, len(centred))
    if candidates is None:
        wanted = torch.ones_like(present)
    elif candidates.ndim == 2:
        wanted = candidates | present
    else:
        wanted = candidates.flatten(2).any(2) | present
    if candidates is None or candidates.ndim == 2:  # then all cells have them
        informed = wanted & (present | centred)
        wanted = torch.where(informed.any(1, keepdim=True), informed, wanted)
    number = int(wanted.sum(1).max())
    if number == len(centred):
        return None
    index = wanted.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :number]
    return Classes(index, wanted.gather(1, index), len(centred))


def _present(seeds: Tensor, num_classes: int) -> Tensor:
    """Classes of the seeds of each image, `b k`."""
    found = torch.zeros(len(seeds), IGNORE_INDEX + 1, dtype=torch.bool, device=seeds.device)
    labelled = grid.few_pixels(seeds != IGNORE_INDEX)
    if labelled is not None:
        found[labelled[0], seeds[labelled]] = True
    else:
        found.scatter_(1, seeds.flatten(1), value=True)
    return found[:, :num_classes]


def compact_grid(
    logits: Float[Tensor, "b k H W"],
    features: Float[Tensor, "b d h w"],
    seeds: Int64[Tensor, "b H W"],
    candidates: Bool[Tensor, "b k"] | Bool[Tensor, "b k H W"] | None,
    valid: Bool[Tensor, "b H W"] | None,
    centred: Bool[Tensor, " k"],
    adjustment: Float[Tensor, " k"] | None = None,
) -> CompactGrid:
    """Bring everything to the grid of the features; the meaning is that of `reduce_to_grid`.

    Args:
        logits: logits of the network.
        features: features of the network.
        seeds: class of each pixel, 255 = unlabelled; seeds on invalid pixels do not count.
        candidates: classes that the labels allow in the image or at the pixel, None = all.
        valid: pixels of the picture (False = padding), None = all.
        centred: classes that the mixture has a running centre of.
        adjustment: what is added to the logits in the cross-entropy alone, None = nothing.

    Returns:
        The batch on the grid.

    Example:
        >>> seeds = torch.full((1, 4, 4), 255)
        >>> given, centred = torch.tensor([[True, False, False]]), torch.zeros(3).bool()
        >>> logits, features = torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 2, 2)
        >>> result = compact_grid(logits, features, seeds, given, None, centred)
        >>> result.logits.shape, result.candidates.shape
        (torch.Size([1, 3, 4]), torch.Size([1, 1, 4]))
    """
    dtype = torch.promote_types(torch.promote_types(logits.dtype, features.dtype), torch.float32)
    size = (features.shape[2], features.shape[3])
    if valid is not None and inputs.readable(valid) and bool(valid.all()):
        valid = None
    if valid is not None:
        seeds = seeds.masked_fill(~valid, IGNORE_INDEX)
    classes = choose_classes(seeds, candidates, centred)
    labelled = grid.few_pixels(seeds != IGNORE_INDEX)
    counts = _counts(seeds, labelled, classes, len(centred), size)
    shares = grid.class_shares(counts, dtype)
    cells = _candidates(candidates, valid, shares, size, classes)
    if cells is None:  # a cell outside the picture has no candidate, and then all classes
        classes = None
        counts = _counts(seeds, labelled, classes, len(centred), size)
        shares = grid.class_shares(counts, dtype)
        cells = grid.cell_candidates(candidates, valid, shares, size)
    share = grid.valid_share(valid, seeds, size, dtype)
    sums, cross_entropy = _logits_and_cross_entropy(
        logits, seeds, valid, size, labelled, adjustment
    )
    return CompactGrid(
        logits=grid.mean_logits(sums.to(dtype), share),
        cross_entropy=cross_entropy.to(dtype),
        labelled_pixels=(seeds != IGNORE_INDEX).sum(),
        label_counts=_all_counts(counts, classes),
        features=features.to(dtype).flatten(2),
        shares=shares,
        labelled=(shares > 0).any(1),
        valid=(share > 0).flatten(1),
        candidates=cells,
        all_candidates=_all_candidates(candidates, cells, shares, classes),
        classes=classes,
    )


def class_logits(
    logits: Float[Tensor, "b k H W"],
    valid: Bool[Tensor, "b H W"] | None,
    size: tuple[int, int],
    classes: Classes | None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b j n"]:
    """Mean logits of each cell for some classes. No gradient.

    Args:
        logits: logits, any float type.
        valid: pixels that count, None = all.
        size: rows and columns of the grid.
        classes: the classes, None = all.
        dtype: type of the means.

    Returns:
        Means over the valid pixels.

    Example:
        >>> class_logits(torch.ones(1, 2, 4, 4), None, (2, 2), None).shape
        torch.Size([1, 2, 4])
    """
    with torch.no_grad():
        if valid is not None and inputs.readable(valid) and bool(valid.all()):
            valid = None
        interleaved = logits.stride(1) == 1  # then to pick classes reads all the same
        if classes is not None and not interleaved:
            logits = classes.take(logits)
        share = grid.valid_share(valid, logits[:, 0], size, dtype)
        means = grid.mean_logits(pixel_logits(logits, valid, size)[0].to(dtype), share)
        return classes.take(means) if classes is not None and interleaved else means


def _logits_and_cross_entropy(
    logits: Tensor,
    seeds: Tensor,
    valid: Tensor | None,
    size: tuple[int, int],
    labelled: Pixels | None,
    adjustment: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Mean logits of the cells, and mean cross-entropy of the labelled pixels."""
    if labelled is not None:
        cells, chosen = pixel_logits(logits, valid, size, labelled)
        adjusted = chosen if adjustment is None else chosen + adjustment
        total = functional.cross_entropy(adjusted, seeds[labelled], reduction="sum")
    elif inputs.readable(logits):
        cells, total = labelled_logits(logits, seeds, valid, size, adjustment)
    else:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        adjusted = wide if adjustment is None else wide + adjustment.view(-1, 1, 1)
        return pixel_logits(logits, valid, size)[0], losses.partial_cross_entropy(adjusted, seeds)
    return cells, total / (seeds != IGNORE_INDEX).sum().clamp(min=1)


def _counts(
    seeds: Tensor,
    labelled: Pixels | None,
    classes: Classes | None,
    num_classes: int,
    size: tuple[int, int],
) -> Tensor:
    if classes is None:
        return grid.class_counts(seeds, num_classes, size)
    return grid.class_counts(classes.rename(seeds, labelled), classes.chosen.shape[1], size)


def _all_counts(counts: Tensor, classes: Classes | None) -> Tensor:
    """Numbers of labelled pixels of all classes in the batch, `k`."""
    counts = counts.sum(2, keepdim=True)
    return (counts if classes is None else classes.put(counts)).sum((0, 2))


def _candidates(
    candidates: Tensor | None,
    valid: Tensor | None,
    shares: Tensor,
    size: tuple[int, int],
    classes: Classes | None,
) -> Tensor | None:
    """Candidates of every cell, `b j n`; None if a cell has none of the classes."""
    if classes is None:
        return grid.cell_candidates(candidates, valid, shares, size)
    cells = classes.real.unsqueeze(2)
    if candidates is not None:
        given = classes.take(candidates)
        if given.ndim == 2:
            cells = (given & classes.real).unsqueeze(2)
        else:
            if valid is not None:
                given = given & valid.unsqueeze(1)
            cells = cells & any_pixel(given, size).flatten(2)
    cells = cells | (shares > 0)
    return cells if bool(cells.any(1).all()) else None


def _all_candidates(
    candidates: Tensor | None, cells: Tensor, shares: Tensor, classes: Classes | None
) -> Tensor | None:
    """Candidates with all classes, `b k n`, or `b k 1` where no seed adds one; None = all."""
    if candidates is None:
        return None
    if classes is None:
        return cells
    if candidates.ndim == 4:
        return classes.put(cells)
    given = candidates.unsqueeze(2)
    added = (shares > 0) & ~classes.take(candidates).unsqueeze(2)
    return given | classes.put(added) if bool(added.any()) else given
