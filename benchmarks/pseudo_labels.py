"""Are pseudo labels better than what the network itself says of its training pictures?

    uv run python benchmarks/pseudo_labels.py CAMVID runs/camvid/points-agmm-[0-9]
    uv run python benchmarks/pseudo_labels.py VOC_MINI runs/voc_mini/tags-agmm-0 --every 4

For each run, the training pictures are labelled in four ways and measured against their dense
masks, which no run may have been trained from: the network's argmax; the same among the classes
that the labels allow; a prediction that does not know the picture's labels (``agmm predict``); and
the pseudo labels (``agmm label``). Pixels that the annotator labelled are right by themselves and
not counted. The confidence is the largest probability, and for pseudo labels their own; where a
run calibrates it, also what it was before.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from agmm.commands.common import usable_dataset
from agmm.commands.runs import dataset_for
from agmm.data.dataset import dense_mask, read_supervision
from agmm.datasets.images import read_image
from agmm.datasets.records import Record
from agmm.evaluation.label_quality import PseudoLabelQuality, pseudo_label_quality
from agmm.files import write_text
from agmm.inference.predict import predict_probabilities
from agmm.mixture import pseudo_labels
from agmm.training.labelling import label_record
from agmm.training.pseudo import with_seeds_of
from agmm.training.run import Run, load_run

Way = tuple[str, Tensor, Tensor]
"""Name, labels ``H W`` and their confidence."""


def ways_of_labelling(run: Run, record: Record) -> tuple[Tensor, list[Way]]:
    """What the annotator labelled, 255 elsewhere, and what each way makes of the picture."""
    image = read_image(record.image)
    given = read_supervision(
        record, run.config.labels, image.shape[:2], run.model.num_classes,
        complete=run.config.complete_labels, background=run.classes.background,
    )  # fmt: skip
    labelled = label_record(run, record, threshold=0.0)
    prediction = predict_probabilities(
        run.model, image, objective=run.objective, device="cpu", image_scale=run.config.image_scale
    )
    nothing = torch.ones_like(labelled.probs)
    allowed = torch.from_numpy(given.candidates)
    argmaxes = {
        "network": (labelled.probs, None),
        "network, allowed classes": (labelled.probs, allowed[None]),
        "prediction": (prediction, None),
    }
    ways: list[Way] = []
    for name, (probs, candidates) in argmaxes.items():
        masks, confidence = pseudo_labels(probs[None], nothing[None], candidates)
        ways.append((name, masks[0].to(torch.uint8), confidence[0]))
    ways.append(("pseudo labels", labelled.mask, labelled.confidence))
    if run.calibration is not None and record.guesses:
        plain = label_record(replace(run, calibration=None), record, threshold=0.0)
        ways.append(("pseudo labels, not calibrated", plain.mask, plain.confidence))
    return labelled.annotated, ways


def measure(run: Run, records: Sequence[Record]) -> dict[str, PseudoLabelQuality]:
    """What each way is worth, over all pictures with a dense mask."""
    found: dict[str, PseudoLabelQuality] = {}
    for record in records:
        truth = dense_mask(record)
        annotated, ways = ways_of_labelling(run, record)
        for name, labels, confidence in ways:
            quality = pseudo_label_quality(
                labels.numpy(), confidence.numpy(), truth, run.model.num_classes,
                annotated=annotated.numpy(),
            )  # fmt: skip
            found[name] = found[name] + quality if name in found else quality
    return found


def training_records(run: Run, data: Path, every: int, folder: Path) -> Sequence[Record]:
    """Every n-th picture of a run's training split, with the seeds that the run had."""
    console = Console(stderr=True)
    if "dense" in run.config.labels:
        raise SystemExit(
            f"{run.path}: was trained from the dense masks; give a run on other labels"
        )
    required = {"train": run.config.labels}
    dataset = usable_dataset(
        dataset_for(run, data, format=run.config.format, mapping=None),
        required, skip_bad=run.config.skip_bad, clip_boxes=run.config.clip_boxes, console=console,
    )  # fmt: skip
    return with_seeds_of(
        run,
        [record for record in dataset.split("train")[::every] if "dense" in record.labels],
        dataset.classes,
        console,
        folder=folder,
        device="cpu",
    )


def rows(run: Run, found: dict[str, PseudoLabelQuality]) -> Iterator[dict[str, Any]]:
    """The figures of a run as they go to JSON."""
    for way, quality in found.items():
        yield {
            "run": run.path.name,
            "way": way,
            "pictures": quality.pictures,
            "miou": round(quality.guessed.scores().miou, 4),
            "precision": round(quality.guessed.precision(), 4),
            "expected_calibration_error": round(
                quality.calibration.expected_calibration_error(), 4
            ),
        }


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """A row for each run and way, in percent."""
    lines = ["| run | labelled by | mIoU, % | precision, % | calibration error |", "|---" * 5 + "|"]
    lines += [
        f"| {row['run']} | {row['way']} | {100 * row['miou']:.1f} |"
        f" {100 * row['precision']:.1f} | {row['expected_calibration_error']:.3f} |"
        for row in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the runs one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every n-th training picture")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="last")
    parser.add_argument("--results", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for path in arguments.runs:
        run = load_run(path, checkpoint=arguments.checkpoint, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            records = training_records(run, arguments.data, arguments.every, Path(folder))
            results += rows(run, measure(run, records))
    print(as_table(results))
    if arguments.results is not None:
        write_text(arguments.results, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
