"""AGMMLoss: the losses of the adaptive Gaussian mixture in one module, for any PyTorch loop.

Our reading of Wu et al., IEEE TPAMI 2025 (doi 10.1109/TPAMI.2025.3557047), whose equations could
not be read: the centres and the first use of a mixture are published (CVPR 2023); the E step, the
M step, the maximisation loss and all default weights are this project's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from agmm.errors import ConfigError, InputError
from agmm.mixture import losses
from agmm.mixture.appearance import APPEARANCE_CHANNELS, with_appearance
from agmm.mixture.class_prior import ClassPrior
from agmm.mixture.compact import CompactGrid, class_logits, compact_grid
from agmm.mixture.components import (
    Centres,
    Choices,
    Components,
    Variance,
    component_rows,
    image_components,
)
from agmm.mixture.equipartition import spread_over_components
from agmm.mixture.expectation import Expectation, Teacher, objective_terms
from agmm.mixture.gaussian import log_posterior
from agmm.mixture.grid import valid_share
from agmm.mixture.inputs import (
    Batch,
    Need,
    ObjectiveOutput,
    check_choice,
    check_features,
    check_images,
    check_inputs,
    check_network,
    check_sizes,
    check_teacher,
    check_valid,
    check_weight,
)
from agmm.mixture.losses import Confidence
from agmm.mixture.neighbours import affinities, mean_field, support
from agmm.mixture.online_em import (
    RunningMixture,
    e_step,
    rank_shares,
    sufficient_statistics,
)
from agmm.mixture.pooling import area_average
from agmm.mixture.presence import PresenceModel, image_vectors, presence_prior
from agmm.mixture.softmax import softmax_terms
from agmm.shapes import IGNORE_INDEX


class AGMMLoss(nn.Module):
    """Losses of seeds and candidates under an online Gaussian mixture of the labels.

    In training mode every call is one step of the online EM and of the warm-up; in evaluation mode
    nothing changes. A class enters the mixture with its first seed. Everything is computed in
    float32 or wider, also under autocast, and nothing waits for the device. In training mode under
    `torch.distributed`, where all ranks must call it, the statistics are summed over the ranks, and
    every term is scaled so that its mean over the ranks, and the gradient that
    `DistributedDataParallel` makes of it, are those of one process with all their images.

    Args:
        num_classes: number of classes, 2 to 255, the background included.
        feature_channels: number of feature channels.
        partial_cross_entropy: weight of the cross-entropy on labelled pixels.
        mixture_likelihood: weight of the mixture's cross-entropy on labelled cells.
        mutual: weight of what the mixture teaches the network on unlabelled cells.
        mutual_features: weight of what the network teaches the mixture there.
        maximisation: weight of the pull of every cell to its component.
        separation: weight of the push between the components.
        absent_class: weight of the term on classes that the labels rule out.
        warmup_steps: over these first steps the two `mutual` terms, `maximisation` and
            `separation` rise from 0.
        step_size: η of the stepwise EM, above 0, at most 1.
        unlabelled_weight: what an unlabelled cell counts in the M step, where a labelled one
            counts 1; 0 takes centres and variances from the seeds alone.
        centres: which seeds a centre is the mean of: those of the `image`, of the `batch`, of the
            past (`running`); or every labelled cell of the image is a component (`pixels`).
        variance: of each `class`, `shared` by all, or `fixed` at 1.
        components: number of components of a class; more than one need `running` centres.
        running_share: weight of the running centre beside the components of the image, 0 to below
            1; at 0 it only stands in for classes without seeds in the image.
        variance_floor: smallest variance of a class.
        temperature: T, above 0; the posterior is that of `N^(1/T)`, as if 1/T channels were
            independent.
        prediction_temperature: the same for images without seeds, such as those to predict, of
            which the running centres know less.
        normalise_features: whether the mixture sees features of equal length.
        appearance: weight of colour and position as further channels of the mixture; 0 = none.
            Needs `images` in every call.
        coherence: λ, weight of a cell's neighbours in the E step, where those of a similar colour
            count most; 0, or a call without `images` = each cell stands alone.
        network_prior: whether the E step takes the network's `p` as prior of the classes.
        presence: whether, in evaluation mode and in images of which no label says anything, the
            odds of each class being in the image are a prior of the E step, once `presence_model`
            has learned them.
        label_worth: κ, how many cells a labelled one is worth: in an image where κ times the number
            of labelled cells is more than that of all cells, the two `mutual` terms are divided by
            the square of the one over the other; 0 = nowhere.
        prior_floor: lowest frequency that `p` assumes of a class, relative to the mean of the
            classes: where the labels have less of it, the cross-entropy is adjusted; 0 = nowhere.
        confidence: what an unlabelled cell counts by: its `largest` responsibility; its
            `agreement`, the probability that the network gives to what it is to learn, `Σ r p`; or
            nothing (`none`).
        teacher: whether `agmm train` gives it the network with averaged weights as teacher.
        joint_prediction: whether pictures are predicted like pseudo labels, by `p` times the
            posterior (of the running centres, as a picture has no seeds); else by `p` alone.

    Attributes:
        mixture: the running means, variances and masses of all components.
        prior: how frequent the classes are among the labels.
        presence_model: which classes an image shows, by its features; says nothing before its
            `fit`.
        needs: what a training loop shall give it besides logits, features and labels.
        step: number of forward passes in training mode, int64.

    Example:
        >>> objective = AGMMLoss(num_classes=3, feature_channels=4)
        >>> seeds = torch.full((1, 8, 8), 255)
        >>> seeds[0, 2, 2] = 1
        >>> out = objective(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 2, 2), seeds)
        >>> round(out.loss.item(), 4), out.posterior.shape
        (1.0986, torch.Size([1, 3, 2, 2]))
    """

    step: Tensor

    def __init__(
        self,
        num_classes: int,
        feature_channels: int,
        *,
        partial_cross_entropy: float = 1.0,
        mixture_likelihood: float = 0.0,
        mutual: float = 1.0,
        mutual_features: float = 0.0,
        maximisation: float = 0.0,
        separation: float = 0.0,
        absent_class: float = 0.1,
        warmup_steps: int = 1000,
        step_size: float = 0.1,
        unlabelled_weight: float = 0.0,
        centres: Centres = "image",
        variance: Variance = "class",
        components: int = 1,
        running_share: float = 0.1,
        variance_floor: float = 1e-4,
        temperature: float = 0.3,
        prediction_temperature: float = 2.0,
        normalise_features: bool = False,
        appearance: float = 0.0,
        coherence: float = 40.0,
        network_prior: bool = True,
        presence: bool = True,
        label_worth: float = 50.0,
        prior_floor: float = 0.25,
        confidence: Confidence = "agreement",
        teacher: bool = True,
        joint_prediction: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(num_classes, feature_channels)
        self.num_classes = num_classes
        self.feature_channels = feature_channels
        self.weights = {
            "partial_cross_entropy": partial_cross_entropy,
            "mixture_likelihood": mixture_likelihood,
            "mutual": mutual,
            "mutual_features": mutual_features,
            "maximisation": maximisation,
            "separation": separation,
            "absent_class": absent_class,
        }
        self.warmup_steps = warmup_steps
        self.step_size = step_size
        self.unlabelled_weight = unlabelled_weight
        self.choices = Choices(
            centres,
            variance,
            components,
            running_share,
            variance_floor,
            temperature,
            prediction_temperature,
        )
        self.normalise_features = normalise_features
        self.appearance = appearance
        self.coherence = coherence
        self.network_prior = network_prior
        self.presence = presence
        self.label_worth = label_worth
        self.prior_floor = prior_floor
        self.confidence = confidence
        self.joint_prediction = joint_prediction
        self._check_options()
        given: dict[Need, bool] = {"teacher": teacher, "images": appearance > 0 or coherence > 0}
        self.needs = frozenset(need for need, wanted in given.items() if wanted)
        channels = feature_channels + (APPEARANCE_CHANNELS if appearance else 0)
        self.mixture = RunningMixture(num_classes * components, channels)
        self.prior = ClassPrior(num_classes, prior_floor)
        self.presence_model = PresenceModel(num_classes, channels)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        seeds: Tensor,
        candidates: Tensor | None = None,
        valid: Tensor | None = None,
        *,
        teacher_logits: Tensor | None = None,
        teacher_features: Tensor | None = None,
        images: Tensor | None = None,
    ) -> ObjectiveOutput:
        """Compute the loss of a batch and, in training mode, take one step of the online EM.

        Shapes are checked here with messages, and therefore not annotated.

        Args:
            logits: logits of the network, `b k H W`, any float type.
            features: features of the network, `b d h w`, any float type and stride.
            seeds: class of each pixel, `b H W`, int64; 255 = unlabelled.
            candidates: classes that the labels allow, bool, in the image (`b k`) or at each pixel
                (`b k H W`); None = all. A seed's class always is a candidate.
            valid: pixels of the picture, `b H W`, bool (False = padding); None = all.
            teacher_logits: logits of a steadier network for the same images, such as one with
                averaged weights; the E step and the M step then follow the teacher. None = those
                of the network itself.
            teacher_features: features of the same, given with `teacher_logits` or not at all.
            images: what the network saw, `b 3 H W`, normalised, any float type, for `appearance`
                and `coherence`; None = nobody looks at colours, and each cell stands alone.

        Returns:
            Loss, terms, and posterior. The terms are named like the weights and sum up to the
            loss. The posterior is what the E step knows of a cell besides its own seeds and the
            network's `p`: mixture and neighbours. Times `p` it gives pseudo labels and, for images
            without seeds, predictions.

        Raises:
            InputError: if a shape or type does not fit or, on the CPU, a value; if one of the
                teacher's two arguments is missing, or `images` with `appearance`.
        """
        batch = Batch(logits, features, seeds, candidates, valid)
        with torch.autocast(logits.device.type, enabled=False):
            check_inputs(*batch, self.num_classes, self.feature_channels)
            check_teacher(logits, features, teacher_logits, teacher_features)
            check_images(images, len(logits), logits.shape[2:])
            grid = self._grid(batch)
            colours = self._colours(images, features, grid.features.dtype)
            teacher = None
            if teacher_logits is not None and teacher_features is not None:
                teacher = self._teacher(teacher_logits, teacher_features, valid, colours, grid)
            log_probs, absent = softmax_terms(
                grid.logits, grid.all_candidates, grid.classes and grid.classes.chosen
            )
            known = self._expectation(grid, teacher, colours)
            terms, counts = objective_terms(
                grid, known, log_probs, absent, self.weights, self.confidence, self.label_worth
            )
            if self.training:
                self._m_step(known, grid)
                shares = rank_shares(torch.stack([counts[name] for name in terms]))
                # Their mean over the processes is then that of one with all images.
                terms = {
                    name: terms[name] * share for name, share in zip(terms, shares, strict=True)
                }
            warmup = losses.warmup_factor(self.step, self.warmup_steps)
            for name in ("mutual", "mutual_features", "maximisation", "separation"):
                terms[name] = warmup * terms[name]
            terms = {name: weight * terms[name] for name, weight in self.weights.items()}
            loss = torch.stack(list(terms.values())).sum()
            backing = None
            if known.affinities is not None and not self.training:
                backing = support(known.alone, known.affinities, grid.shares, grid.labelled)
        if self.training:
            self.step = self.step + 1  # replaced for the reason of RunningMixture.update
        return ObjectiveOutput(
            loss=loss,
            terms={name: term.detach() for name, term in terms.items()},
            posterior=_all_classes(known.posterior, grid, features),
            support=None if backing is None else _all_classes(backing, grid, features),
        )

    @torch.no_grad()
    def unlabelled_posterior(
        self,
        logits: Tensor,
        features: Tensor,
        *,
        valid: Tensor | None = None,
        images: Tensor | None = None,
    ) -> Tensor:
        """The posterior of images without labels, as a call gives it, without the losses.

        Args:
            logits: as in a call.
            features: as in a call.
            valid: as in a call.
            images: as in a call.

        Returns:
            Posterior, `b k h w`.

        Raises:
            InputError: if a shape or type does not fit, or `images` are missing with `appearance`.
        """
        with torch.autocast(logits.device.type, enabled=False):
            check_network(logits, features, self.num_classes, self.feature_channels)
            check_valid(valid, len(logits), logits.shape[2:])
            check_images(images, len(logits), logits.shape[2:])
            # On the grid at once: without labels, no single pixel is asked for.
            size = (features.shape[2], features.shape[3])
            dtype = torch.promote_types(logits.dtype, torch.float32)
            cells = torch.unflatten(class_logits(logits, valid, size, None, dtype), 2, size)
            seeds = torch.full_like(cells[:, 0], IGNORE_INDEX, dtype=torch.int64)
            grid = self._grid(Batch(cells, features, seeds, None, _valid_cells(valid, size)))
            colours = self._colours(images, features, grid.features.dtype)
            posterior = self._expectation(grid, None, colours).posterior
        return _all_classes(posterior, grid, features)

    @torch.no_grad()
    def image_vectors(
        self, features: Tensor, images: Tensor | None = None, *, valid: Tensor | None = None
    ) -> Tensor:
        """The vectors of whole images that `presence_model` learns from, see its `fit`.

        Args:
            features: features of the network in evaluation mode, `b d h w`.
            images: as in a call.
            valid: as in a call.

        Returns:
            Vectors, `b c`.

        Raises:
            InputError: if a shape or type does not fit, or `images` are missing with `appearance`.
        """
        with torch.autocast(features.device.type, enabled=False):
            check_features(features, self.feature_channels)
            check_images(images, len(features), None)
            check_valid(valid, len(features), None if images is None else images.shape[2:])
            dtype = torch.promote_types(features.dtype, torch.float32)
            colours = self._colours(images, features, dtype)
            cells = _valid_cells(valid, (features.shape[2], features.shape[3]))
            return image_vectors(
                self._seen(features.to(dtype).flatten(2), colours),
                None if cells is None else cells.flatten(1),
            )

    def _grid(self, batch: Batch) -> CompactGrid:
        """The batch on the grid of the features."""
        centred = (self.mixture.mass > 0).view(self.num_classes, -1).any(1)
        if self.choices.centres == "batch" or self.choices.components > 1:
            centred = torch.ones_like(centred)  # not known by the image's own seeds alone
        return compact_grid(*batch, centred, self.prior.adjustment())

    def _expectation(
        self, grid: CompactGrid, teacher: Teacher | None, colours: Tensor | None
    ) -> Expectation:
        """What mixture, network and neighbours know of every cell."""
        moving = self._moves_features()
        with torch.set_grad_enabled(moving and torch.is_grad_enabled()):
            if moving or teacher is None:
                asked = self._seen(grid.features, colours)
            else:
                asked = teacher.features
            ours = theirs = self._components(grid, asked)
        if teacher is None:
            logits = grid.logits.detach()
            teacher = Teacher(logits if grid.classes is None else grid.classes.take(logits), asked)
        elif moving:
            theirs = self._components(grid, teacher.features)
        evidence = theirs.evidence.detach()
        if self.presence and not self.training:
            odds = self.presence_model.scores(teacher.features, grid.valid)
            shown = presence_prior(odds, grid.all_candidates, grid.labelled)
            evidence = evidence + (shown if grid.classes is None else grid.classes.take(shown))
        scores = teacher.scores if self.network_prior else None
        joint = alone = log_posterior(evidence, theirs.allowed, scores)
        weights = None
        if self.coherence and colours is not None:
            weights = affinities(colours, grid.valid.reshape(len(colours), *colours.shape[2:]))
            joint = mean_field(alone, weights, grid.shares, grid.labelled, self.coherence)
        return Expectation(
            teacher=teacher,
            ours=ours,
            theirs=theirs,
            alone=alone,
            affinities=weights,
            posterior=joint.exp() if scores is None else (joint - scores).softmax(1),
            gamma=e_step(joint, grid.shares, grid.labelled),
            # Where the mixture knows no candidate, it has nothing to teach.
            cells=grid.valid & (grid.candidates & ours.known.unsqueeze(2)).any(1),
        )

    def _teacher(
        self,
        logits: Tensor,
        features: Tensor,
        valid: Tensor | None,
        colours: Tensor | None,
        grid: CompactGrid,
    ) -> Teacher:
        """The teacher on the grid, with its classes."""
        size, dtype = features.shape[2:], grid.features.dtype
        scores = class_logits(
            logits.detach(), valid, (size[0], size[1]), grid.classes, grid.logits.dtype
        )
        return Teacher(scores, self._seen(features.detach().to(dtype).flatten(2), colours))

    def _m_step(self, known: Expectation, grid: CompactGrid) -> None:
        """Take the cells into the running mixture, with their weights for the classes."""
        unlabelled = self.unlabelled_weight * known.cells.to(known.gamma.dtype)
        weights = known.gamma * torch.where(grid.labelled, 1, unlabelled).unsqueeze(1)
        rows = None
        if grid.classes is not None:
            rows = component_rows(grid.classes.chosen, self.choices.components)
        features = known.teacher.features
        spread = spread_over_components(
            weights, features, grid.labelled, known.theirs, grid.classes
        )
        statistics = sufficient_statistics(spread, features, rows, len(self.mixture.mass))
        self.mixture.update(statistics, self.step_size)
        self.prior.update(grid.label_counts)

    def _components(self, grid: CompactGrid, features: Tensor) -> Components:
        """The mixture of every image under our choices."""
        chosen = None if grid.classes is None else grid.classes.chosen
        return image_components(
            features, grid.shares, grid.candidates, self.mixture, self.choices, chosen
        )

    def _colours(
        self, images: Tensor | None, features: Tensor, dtype: torch.dtype
    ) -> Tensor | None:
        """Mean colours of the cells, `b 3 h w`; None where nobody looks or there is no image."""
        if images is None and self.appearance:
            raise InputError(
                "images: expected the network's input, as appearance is on, got None; pass it"
            )
        if images is None or "images" not in self.needs:
            return None
        return area_average(images.detach().to(dtype), (features.shape[2], features.shape[3]))

    def _seen(self, features: Tensor, colours: Tensor | None) -> Tensor:
        """What the mixture sees of the features `b d n`, with colour and position beside them."""
        if self.normalise_features:
            features = functional.normalize(features, dim=1) * features.shape[1] ** 0.5
        if colours is not None and self.appearance:
            features = with_appearance(features, colours, self.appearance)
        return features

    def _moves_features(self) -> bool:
        """Whether a term reaches the network's features, which then need the mixture's gradient."""
        return any(
            self.weights[name]
            for name in ("mixture_likelihood", "mutual_features", "maximisation", "separation")
        )

    def _check_options(self) -> None:
        check_choice("confidence", self.confidence, Confidence)
        for name, weight in self.weights.items():
            check_weight(name, weight)
        for name in (
            "warmup_steps", "unlabelled_weight", "appearance", "coherence", "label_worth",
            "prior_floor",
        ):  # fmt: skip
            check_weight(name, float(getattr(self, name)))
        if not 0 < self.step_size <= 1:
            raise ConfigError(
                f"step_size: expected above 0 and at most 1, got {self.step_size}; try 0.1"
            )
        self.choices.check()


def _valid_cells(valid: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """Cells with a valid pixel, `b h w`; None = all."""
    return None if valid is None else valid_share(valid, valid, size) > 0


def _all_classes(values: Tensor, grid: CompactGrid, features: Tensor) -> Tensor:
    """Values `b j n` of the grid's classes among all classes, `b k h w`; 0 elsewhere."""
    values = values if grid.classes is None else grid.classes.put(values)
    return values.reshape(len(features), -1, *features.shape[2:])
