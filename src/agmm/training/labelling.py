"""Pseudo labels of pictures from a run."""

from collections.abc import Sequence

from agmm.data.dataset import supervise
from agmm.datasets.images import read_image
from agmm.datasets.records import Record
from agmm.inference.label import LabelledPicture, label_picture
from agmm.labels.annotations import Annotation
from agmm.shapes import ImageArray, MaskArray
from agmm.training.run import Run

ABOUT = "about.json"
"""What a folder of pseudo labels says of itself."""


def label_record(run: Run, record: Record, *, threshold: float) -> LabelledPicture:
    """Posterior and pseudo labels of one picture from its labels and a run.

    Args:
        run: The run; network and objective lie on one device.
        record: The picture and its labels.
        threshold: Pixels of a lower confidence become 255; 0 to 1.

    Returns:
        Everything at the picture's size.
    """
    annotations = [record.labels[form]() for form in run.config.labels if form in record.labels]
    guesses = [guess() for guess in record.guesses]
    return label_image(run, read_image(record.image), annotations, guesses, threshold=threshold)


def label_image(
    run: Run,
    image: ImageArray,
    annotations: Sequence[Annotation],
    guesses: Sequence[MaskArray],
    *,
    threshold: float,
) -> LabelledPicture:
    """The same for a picture and labels that have been read.

    Args:
        run: The run; network and objective lie on one device.
        image: The picture.
        annotations: Its labels of the forms that the run was trained from.
        guesses: Its seeds that no annotator gave, (H, W).
        threshold: Pixels of a lower confidence become 255; 0 to 1.

    Returns:
        Everything at the picture's size. Where there are guesses, the confidence is that of the
        run's calibration, if it has one.
    """
    annotated, given = (
        supervise(
            annotations,
            found,
            image.shape[:2],
            run.model.num_classes,
            complete=run.config.complete_labels,
            background=run.classes.background,
        )
        for found in ((), guesses)
    )
    return label_picture(
        run.model,
        run.objective,
        image,
        given,
        annotated=annotated.seeds,
        image_scale=run.config.image_scale,
        threshold=threshold,
        calibration=run.calibration if guesses else None,
        device=next(run.model.parameters()).device,
    )
