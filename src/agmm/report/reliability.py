"""The reliability diagram: how often labels of a confidence are right."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agmm.evaluation.calibration import Bin, Calibration
from agmm.report.figures import Color, Picture

_SIDE, _STRIP = 600, 150  # pixels of the diagram, and of the histogram below it
_LEFT, _TOP, _RIGHT, _GAP, _BOTTOM = 100, 64, 30, 36, 84
_PAPER: Color = (255, 255, 255)
_INK: Color = (38, 38, 38)
_PALE: Color = (222, 222, 222)
_BAR: Color = (66, 114, 178)
_EXPECTED: Color = (214, 96, 40)


def draw_reliability(found: Calibration) -> Picture:
    """Draw the accuracy of every bin against its confidence, and the pixels of every bin below.

    A blue bar is the share of the bin's labels that are right; an orange mark is their mean
    confidence, which a calibrated confidence has at the bar's end. On the dashed line both agree.

    Args:
        found: The counts.

    Returns:
        The diagram on white paper, "H W 3".

    Example:
        >>> from agmm.evaluation.calibration import calibration
        >>> labels = np.zeros((2, 2), np.uint8)
        >>> draw_reliability(calibration(labels, np.full((2, 2), 0.8), labels)).shape
        (934, 730, 3)
    """
    size = (_LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _GAP + _STRIP + _BOTTOM)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_axes(draw)
    pixels = int(found.pixels.sum())
    most = max(1, int(found.pixels.max()))
    for bar in found.bins():
        _draw_bin(draw, bar, most)
    # Over the bars.
    for place in range(0, _SIDE, 20):
        ends = [(_LEFT + x, _TOP + _SIDE - x) for x in (place, place + 10)]
        draw.line(ends, fill=_INK, width=2)
    error = found.expected_calibration_error()
    told = "no labels" if math.isnan(error) else f"expected calibration error {error:.3f}"
    font = ImageFont.load_default(24)
    middle = _LEFT + _SIDE / 2
    draw.text((middle, _TOP / 2), told, fill=_INK, font=font, anchor="mm")
    end = size[1] - _BOTTOM / 4
    below = f"confidence of {pixels:,} labels that no annotator gave"
    draw.text((middle, end), below, fill=_INK, font=font, anchor="mm")
    for middle, words in (
        (_TOP + _SIDE / 2, "accuracy"),
        (_TOP + _SIDE + _GAP + _STRIP / 2, "pixels"),
    ):
        _draw_upwards(canvas, (22, round(middle)), words)
    return np.array(canvas)


def _draw_axes(draw: ImageDraw.ImageDraw) -> None:
    font = ImageFont.load_default(20)
    floor = _TOP + _SIDE + _GAP + _STRIP
    for tenths in range(0, 11, 2):
        x, y = _LEFT + _SIDE * tenths / 10, _TOP + _SIDE - _SIDE * tenths / 10
        draw.line([(_LEFT, y), (_LEFT + _SIDE, y)], fill=_PALE)
        label = f"{tenths / 10:.1f}"
        draw.text((_LEFT - 10, y), label, fill=_INK, font=font, anchor="rm")
        draw.text((x, floor + 10), label, fill=_INK, font=font, anchor="mt")


def _draw_bin(draw: ImageDraw.ImageDraw, bar: Bin, most: int) -> None:
    base, floor = _TOP + _SIDE, _TOP + _SIDE + _GAP + _STRIP
    left, right = (round(_LEFT + _SIDE * edge) for edge in (bar.low, bar.high))
    inside = (left + 2, right - 2)
    if bar.pixels:
        top = base - round(_SIDE * bar.accuracy)
        draw.rectangle((inside[0], top, inside[1], base), fill=_BAR)
        y = base - round(_SIDE * bar.confidence)
        draw.rectangle((inside[0], y - 2, inside[1], y + 2), fill=_EXPECTED)
        height = max(1, round(_STRIP * bar.pixels / most))
        draw.rectangle((inside[0], floor - height, inside[1], floor), fill=_BAR)
    for line in (base, floor):
        draw.line([(left, line), (right, line)], fill=_INK, width=2)


def _draw_upwards(canvas: Image.Image, middle: tuple[int, int], words: str) -> None:
    font = ImageFont.load_default(24)
    paper = Image.new("RGB", (math.ceil(font.getlength(words)) + 4, 34), _PAPER)
    ImageDraw.Draw(paper).text((2, 17), words, fill=_INK, font=font, anchor="lm")
    turned = paper.transpose(Image.Transpose.ROTATE_90)
    canvas.paste(turned, (middle[0] - turned.width // 2, middle[1] - turned.height // 2))
