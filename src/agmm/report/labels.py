"""Pictures of labels of every form."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from agmm.datasets.classes import Classes
from agmm.labels.annotations import Annotation, Blocks, Boxes, DenseMask, Tags
from agmm.labels.drawing import draw
from agmm.report.figures import Picture, colorize, draw_seeds, legend, overlay
from agmm.shapes import ImageArray

_HEIGHT = 300  # pixels of a picture with tags: that of a panel, where names can be read
_PALE = 0.35
"""How much of the picture's contrast is left behind the names of tags."""


def draw_annotation(image: ImageArray, annotation: Annotation, classes: Classes) -> Picture:
    """Draw a label so that it can be seen.

    Clicks are outlined discs, strokes and blocks lie on the picture, a dense mask covers it, boxes
    are frames, and tags are a list on the pale picture, which is scaled to 300 pixels of height.

    Args:
        image: RGB, 0 to 255, "H W 3".
        annotation: A label of this picture.
        classes: Names and colours.

    Returns:
        The picture with the label on it, "H W 3".

    Raises:
        DataError: A label that does not fit the picture or the classes.

    Example:
        >>> box = Boxes(np.array([[1, 1, 4, 4]]), np.array([0], np.uint8))
        >>> image = np.zeros((5, 5, 3), np.uint8)
        >>> draw_annotation(image, box, Classes(("cat",), ((200, 100, 0),)))[1, 1].tolist()
        [200, 100, 0]
    """
    marks = draw(annotation, image.shape[:2], len(classes), classes.background)
    if isinstance(annotation, Tags):
        return _draw_tags(image, annotation, classes)
    if isinstance(annotation, Boxes):
        return _draw_boxes(image, annotation, classes)
    if isinstance(annotation, DenseMask):
        return colorize(marks, classes.colors)
    if isinstance(annotation, Blocks):
        return overlay(image, marks, classes.colors, alpha=0.8)
    return draw_seeds(image, marks, classes.colors)


def _draw_boxes(image: ImageArray, boxes: Boxes, classes: Classes) -> Picture:
    canvas = Image.fromarray(image)
    frames = ImageDraw.Draw(canvas)
    width = max(1, round(image.shape[0] / 150))
    for (xmin, ymin, xmax, ymax), label in zip(boxes.xyxy.tolist(), boxes.classes, strict=True):
        corners = (xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1))  # Pillow's are inclusive
        frames.rectangle(corners, outline=classes.colors[label], width=width)
    return np.array(canvas)


def _draw_tags(image: ImageArray, tags: Tags, classes: Classes) -> Picture:
    pale = Image.fromarray((255 - _PALE * (255.0 - image)).astype(np.uint8))
    canvas = pale.resize((max(1, round(pale.width * _HEIGHT / pale.height)), _HEIGHT))
    if len(tags.classes):
        named: Sequence[int] = tags.classes.tolist()
        names = [classes.names[label] for label in named]
        colors = [classes.colors[label] for label in named]
        canvas.paste(Image.fromarray(legend(names, colors, width=canvas.width)), (0, 0))
    return np.array(canvas)
