"""AGMMLoss against a plain-Python reading of the method, written with loops over cells."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.mixture.plain import plain_loss

Batch = dict[str, Any]
Parameters = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
WEIGHTS: dict[str, Any] = {
    "partial_cross_entropy": 1.0,
    "mixture_likelihood": 0.7,
    "mutual": 0.6,
    "mutual_features": 0.55,
    "maximisation": 0.5,
    "separation": 0.4,
    "absent_class": 0.3,
}


def side_of(pixels: int, cells: int) -> int | None:
    sides = [side for side in range(1, pixels + 1) if -(-pixels // side) == cells]
    return min(sides, default=None)


def touches(pixel: int, cell: int, pixels: int, cells: int) -> bool:
    if side := side_of(pixels, cells):
        return pixel // side == cell
    return (pixel + 1) * cells > cell * pixels and pixel * cells < (cell + 1) * pixels


def owners(pixel: int, pixels: int, cells: int) -> list[int]:
    if side := side_of(pixels, cells):
        return [pixel // side]
    if cells <= pixels:
        return [pixel * cells // pixels]
    return [cell for cell in range(cells) if cell * pixels // cells == pixel]


def softmax(values: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    result = np.zeros_like(values)
    weights = np.exp(values[allowed] - values[allowed].max())
    result[allowed] = weights / weights.sum()
    return result


def reduce_cell(batch: Batch, source: str, b: int, r: int, c: int) -> dict[str, Any]:
    """Everything that is known of a cell, from the network (source "") or its teacher."""
    logits = batch[f"{source}logits"][b].detach().numpy()
    features = batch[f"{source}features"][b].detach().numpy()
    (classes, height, width), (_, rows, columns) = logits.shape, features.shape
    given, valid = batch["candidates"], batch["valid"]
    touched, counts, candidates = [], np.zeros(classes), np.zeros(classes, dtype=bool)
    for i, j in np.ndindex(height, width):
        if valid is not None and not valid[b, i, j]:
            continue
        if touches(i, r, height, rows) and touches(j, c, width, columns):
            touched.append(logits[:, i, j])
            at_pixel = given is not None and given.ndim == 4
            candidates |= given[b, :, i, j].numpy() if at_pixel else given is None
        label = int(batch["seeds"][b, i, j])
        if label != 255 and r in owners(i, height, rows) and c in owners(j, width, columns):
            counts[label] += 1
    if given is not None and given.ndim == 2:
        candidates |= given[b].numpy()
    candidates |= counts > 0
    return {
        "f": features[:, r, c],
        "logits": np.mean(touched, 0) if touched else np.zeros(classes),
        "valid": bool(touched),
        "labelled": counts.sum() > 0,
        "y": counts / max(counts.sum(), 1),
        "c": candidates if candidates.any() else ~candidates,
    }


class SlowAGMM:
    """State and loss of the method, one cell at a time; statistics are kept as sums."""

    def __init__(self, classes: int, channels: int, **options: Any) -> None:
        self.mass = np.zeros(classes)
        self.sums = np.zeros((classes, channels))
        self.squares = np.zeros(classes)
        self.step = 0
        self.warmup, self.eta, self.worth = options["warmup"], options["eta"], options["worth"]
        self.temperatures, self.share = options["temperatures"], options["share"]
        self.prior, self.confidence = options["prior"], options["confidence"]
        self.label_worth = options["label_worth"]

    def __call__(self, batch: Batch) -> tuple[dict[str, float], np.ndarray]:
        self.values: dict[str, list[float]] = {name: [] for name in WEIGHTS}
        classes, channels = self.sums.shape
        shape = (len(batch["seeds"]), *batch["features"].shape[2:])
        self.batch = [np.zeros(classes), np.zeros((classes, channels)), np.zeros(classes)]
        source = "teacher_" if "teacher_logits" in batch else ""
        posterior = np.zeros((*shape, classes))
        for b in range(shape[0]):
            grid = {rc: reduce_cell(batch, "", b, *rc) for rc in np.ndindex(*shape[1:])}
            theirs = {rc: reduce_cell(batch, source, b, *rc) for rc in np.ndindex(*shape[1:])}
            parameters = self.parameters(list(grid.values()))
            teacher_parameters = self.parameters(list(theirs.values()))
            present = [k for k in range(classes) if any(cell["y"][k] for cell in grid.values())]
            for i, j in itertools.combinations(present, 2):
                apart = np.mean((parameters[0][i] - parameters[0][j]) ** 2)
                self.values["separation"].append(np.exp(-apart))
            first, self.labels = len(self.values["mutual"]), 0
            for rc, cell in grid.items():
                opinion = self.explain(theirs[rc], teacher_parameters)
                posterior[b, *rc] = self.visit(cell, parameters, theirs[rc], opinion)
            for name in ("mutual", "mutual_features"):
                cells = self.values[name][first:]
                factor = min(1.0, len(cells) / max(self.label_worth * self.labels, 1e-9)) ** 2
                self.values[name][first:] = [factor * value for value in cells]
        terms = {name: float(np.mean(v)) if v else 0.0 for name, v in self.values.items()}
        terms["partial_cross_entropy"] = cross_entropy(batch)
        for name in ("mutual", "mutual_features", "maximisation", "separation"):
            terms[name] *= min(1.0, self.step / self.warmup)
        for k in np.flatnonzero(self.batch[0]):
            eta = self.eta if self.mass[k] > 0 else 1.0
            for old, new in zip((self.mass, self.sums, self.squares), self.batch, strict=True):
                old[k] += eta * (new[k] - old[k])
        self.step += 1
        return terms, posterior.transpose(0, 3, 1, 2)

    def explain(self, cell: dict[str, Any], parameters: Parameters) -> dict[str, np.ndarray]:
        """Likelihood and posterior of a cell, and γ if it has no label."""
        means, variances, known, present = parameters
        temperature = self.temperatures[0 if present.any() else 1]
        distance = ((cell["f"] - means) ** 2).mean(1)
        likelihood = np.where(known, -distance / (2 * variances) - 0.5 * np.log(variances), 0)
        for k in np.flatnonzero((self.mass > 0) & (self.share > 0)):
            apart = ((cell["f"] - self.sums[k] / self.mass[k]) ** 2).mean()
            past = -apart / (2 * variances[k]) - 0.5 * np.log(variances[k])
            density = self.share * np.exp(past / temperature)
            if present[k]:
                density += (1 - self.share) * np.exp(likelihood[k] / temperature)
            likelihood[k] = temperature * np.log(density)
        allowed = cell["c"] & known if (cell["c"] & known).any() else cell["c"]
        evidence = likelihood / temperature
        p = softmax(cell["logits"], np.ones(len(known), dtype=bool))
        return {
            "likelihood": likelihood,
            "posterior": softmax(evidence, allowed),
            "gamma": softmax(evidence + np.log(p) if self.prior else evidence, allowed),
            "p": p,
            "q": softmax(cell["logits"], allowed),
        }

    def visit(
        self,
        cell: dict[str, Any],
        parameters: Parameters,
        teacher: dict[str, Any],
        opinion: dict[str, np.ndarray],
    ) -> np.ndarray:
        """Posterior of a cell; its values and statistics are noted."""
        ours = self.explain(cell, parameters)
        posterior, p, known = ours["posterior"], ours["p"], parameters[2]
        if not cell["valid"]:
            return opinion["posterior"]
        gamma, sure, weight = cell["y"], 1.0, 1.0
        if not cell["labelled"]:
            gamma = opinion["gamma"]
            weight = self.worth
            sure = {"none": 1.0, "largest": gamma.max(), "agreement": gamma @ p}[self.confidence]
        self.values["absent_class"].append(-np.log(1 - p[~cell["c"]]).sum())
        informed = (cell["c"] & known).any()
        if cell["labelled"]:
            on = cell["y"] > 0
            if informed:
                self.labels += 1
                self.values["mutual"].append(0.0)
                self.values["mutual_features"].append(0.0)
            self.values["mixture_likelihood"].append(-(cell["y"][on] * np.log(posterior[on])).sum())
        elif informed:
            on = cell["c"] & known
            self.values["mutual"].append(-sure * (gamma * np.log(p)).sum())
            back = (opinion["q"][on] * np.log(posterior[on])).sum()
            self.values["mutual_features"].append(-sure * back)
        if informed:
            self.values["maximisation"].append(-sure * (gamma * ours["likelihood"]).sum())
            self.batch[0] += weight * gamma
            self.batch[1] += weight * gamma[:, None] * teacher["f"]
            self.batch[2] += weight * gamma * (teacher["f"] ** 2).mean()
        return opinion["posterior"]

    def parameters(self, cells: list[dict[str, Any]]) -> Parameters:
        """Means, variances, known classes and those with seeds, of an image."""
        classes, channels = self.sums.shape
        means, variances = np.zeros((classes, channels)), np.ones(classes)
        known = np.zeros(classes, dtype=bool)
        for k in range(classes):
            weights = np.array([cell["y"][k] for cell in cells])
            if self.mass[k] > 0:
                mean = self.sums[k] / self.mass[k]
                variances[k] = max(self.squares[k] / self.mass[k] - (mean**2).mean(), 1e-4)
            if weights.sum() > 0:
                features = np.array([cell["f"] for cell in cells])
                means[k], known[k] = weights @ features / weights.sum(), True
            elif self.mass[k] > 0:
                means[k], known[k] = self.sums[k] / self.mass[k], True
        present = np.array([any(cell["y"][k] for cell in cells) for k in range(classes)])
        return means, variances, known, present


def cross_entropy(batch: Batch) -> float:
    values = []
    for b, i, j in np.ndindex(*batch["seeds"].shape):
        label = int(batch["seeds"][b, i, j])
        if label != 255 and (batch["valid"] is None or batch["valid"][b, i, j]):
            logits = batch["logits"][b, :, i, j].detach().numpy()
            values.append(np.log(np.exp(logits).sum()) - logits[label])
    return float(np.mean(values)) if values else 0.0


@pytest.mark.parametrize("candidates", ["all", "image", "pixel"])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize(
    ("pixels", "cells"),
    [((6, 8), (3, 4)), ((5, 7), (2, 3)), ((5, 7), (4, 5)), ((3, 4), (3, 4)), ((2, 3), (3, 4))],
)
def test_equals_the_slow_reading(
    make_batch: Callable[..., Batch],
    candidates: str,
    padding: bool,
    teacher: bool,
    pixels: tuple[int, int],
    cells: tuple[int, int],
) -> None:
    plain = candidates == "image"  # the switches in all positions
    choices: dict[str, Any] = {"all": "largest", "image": "none", "pixel": "agreement"}
    confidence = choices[candidates]
    slow = SlowAGMM(
        4, 3, warmup=2, eta=0.3, worth=0.2, temperatures=(0.3, 0.7), prior=not plain,
        confidence=confidence, share=0.0 if plain else 0.2, label_worth=1.0 if plain else 7.5,
    )  # fmt: skip
    objective = plain_loss(
        4, 3, **WEIGHTS, warmup_steps=2, step_size=0.3, unlabelled_weight=0.2,
        temperature=0.3, prediction_temperature=0.7, network_prior=not plain, confidence=confidence,
        running_share=0.0 if plain else 0.2, label_worth=1.0 if plain else 7.5,
    ).double()  # fmt: skip
    # The third class is never seen, the fourth not before the second step.
    for step, labelled in enumerate((0.1, 0.3, 0.0, 0.3)):
        batch = make_batch(
            pixels=pixels, cells=cells, labelled=labelled, candidates=candidates, padding=padding,
            teacher=teacher, seed=step,
        )  # fmt: skip
        absent = (batch["seeds"] == 2) | ((batch["seeds"] == 3) & (step == 0))
        batch["seeds"][absent] = 255
        expected, posterior = slow(batch)
        out = objective(**batch)
        for name, weight in WEIGHTS.items():
            assert out.terms[name].item() == pytest.approx(weight * expected[name], abs=1e-9), name
        assert out.loss.item() == pytest.approx(sum(out.terms.values()).item())
        np.testing.assert_allclose(out.posterior.numpy(), posterior, atol=1e-9)
        seen = slow.mass > 0
        np.testing.assert_allclose(objective.mixture.mass, slow.mass, rtol=1e-9)
        np.testing.assert_allclose(
            objective.mixture.means[seen], slow.sums[seen] / slow.mass[seen, None], rtol=1e-9
        )
        np.testing.assert_allclose(
            objective.mixture.variances[seen],
            slow.squares[seen] / slow.mass[seen]
            - np.square(slow.sums[seen] / slow.mass[seen, None]).mean(1),
            rtol=1e-9,
        )
    assert objective.step.item() == 4
