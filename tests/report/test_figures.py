from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from agmm.errors import InputError
from agmm.report.figures import (
    UNLABELLED_COLOR,
    Color,
    colorize,
    draw_seeds,
    legend,
    overlay,
    panel,
    sheet,
    write_png,
)
from agmm.shapes import ImageArray, MaskArray

COLORS: list[Color] = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


def grey(height: int, width: int) -> ImageArray:
    return np.full((height, width, 3), 100, np.uint8)


def unlabelled(height: int, width: int) -> MaskArray:
    return np.full((height, width), 255, np.uint8)


def test_colorize_paints_each_pixel_with_its_color() -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (5, 6))

    painted = colorize(mask, COLORS)

    for y, x in np.ndindex(5, 6):
        expected = UNLABELLED_COLOR if mask[y, x] == 255 else COLORS[mask[y, x]]
        assert tuple(painted[y, x]) == expected


def test_colorize_keeps_unlabelled_grey_where_the_palette_is_full() -> None:
    painted = colorize(np.array([[255]], np.uint8), [(1, 2, 3)] * 256)
    assert tuple(painted[0, 0]) == UNLABELLED_COLOR


def test_colorize_without_classes() -> None:
    assert (colorize(unlabelled(2, 2), []) == UNLABELLED_COLOR).all()


def test_a_class_without_a_color_is_refused() -> None:
    with pytest.raises(InputError, match=r"classes below 3.* got 3"):
        colorize(np.array([[0, 3, 255]], np.uint8), COLORS)


@given(alpha=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_overlay_lies_between_picture_and_color(alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (4, 5, 3), np.uint8)
    mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (4, 5))

    mixed = overlay(image, mask, COLORS, alpha)

    expected = image + alpha * (colorize(mask, COLORS).astype(float) - image)
    expected[mask == 255] = image[mask == 255]
    assert np.abs(mixed - expected).max() <= 0.5 + 1e-9


def test_overlay_shows_a_confidence_for_each_pixel() -> None:
    mask = np.zeros((1, 3), np.uint8)
    alpha = np.array([[0.0, 0.5, 1.0]])

    mixed = overlay(grey(1, 3), mask, COLORS, alpha)

    assert mixed.tolist() == [[[100, 100, 100], [150, 50, 50], [200, 0, 0]]]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_overlay_checks_alpha(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha: expected values from 0 to 1"):
        overlay(grey(2, 2), np.zeros((2, 2), np.uint8), COLORS, alpha)


@pytest.mark.parametrize("draw", [overlay, draw_seeds])
def test_sizes_must_agree(draw: type) -> None:
    with pytest.raises(InputError, match=r"mask: expected the size of the image, \(2, 3\)"):
        draw(grey(2, 3), unlabelled(3, 2), COLORS)


def test_a_click_becomes_a_disc_with_two_rings() -> None:
    seeds = unlabelled(40, 40)
    seeds[20, 10] = 1

    drawn = draw_seeds(grey(40, 40), seeds, COLORS)

    assert drawn[20, 6:11].tolist() == [
        [38, 38, 38],
        [255, 255, 255],
        [0, 200, 0],
        [0, 200, 0],
        [0, 200, 0],
    ]
    assert (drawn[:, 16:] == 100).all()


def test_discs_grow_with_the_picture() -> None:
    seeds = unlabelled(800, 60)
    seeds[400, 30] = 2

    drawn = draw_seeds(grey(800, 60), seeds, COLORS)

    assert tuple(drawn[391, 30]) == tuple(drawn[409, 30]) == COLORS[2]


def test_neighbouring_clicks_keep_their_colors() -> None:
    seeds = unlabelled(40, 40)
    seeds[20, 20], seeds[20, 24] = 0, 2

    drawn = draw_seeds(grey(40, 40), seeds, COLORS)

    assert tuple(drawn[20, 20]) == COLORS[0]
    assert tuple(drawn[20, 24]) == COLORS[2]


def test_a_square_of_three_pixels_is_a_click_and_a_short_stroke_is_not() -> None:
    seeds = unlabelled(60, 60)
    seeds[10:13, 10:13] = 0
    seeds[40, 20:24] = 1

    drawn = draw_seeds(grey(60, 60), seeds, COLORS)

    assert tuple(drawn[11, 13]) == COLORS[0]
    stroke = drawn[30:].copy()
    assert (stroke[10, 20:24] == COLORS[1]).all()
    stroke[10, 20:24] = 100
    assert (stroke == 100).all()


def test_clicks_in_the_corners() -> None:
    seeds = unlabelled(20, 20)
    seeds[0, 0] = seeds[-1, -1] = 0

    drawn = draw_seeds(grey(20, 20), seeds, COLORS)

    assert drawn.shape == (20, 20, 3)
    assert tuple(drawn[0, 0]) == tuple(drawn[-1, -1]) == COLORS[0]


def test_no_seeds_leave_the_picture() -> None:
    assert np.array_equal(draw_seeds(grey(5, 7), unlabelled(5, 7), COLORS), grey(5, 7))


def test_panel_shows_all_pictures_at_one_height() -> None:
    red, blue = np.zeros((30, 40, 3), np.uint8), np.zeros((100, 50, 3), np.uint8)
    red[:], blue[:] = COLORS[0], COLORS[2]

    row = panel([("a", red), ("b", blue)], height=60)

    assert row.shape[1] == 8 + 80 + 8 + 30 + 8
    assert (row[8:68, 8:88] == COLORS[0]).all()
    assert (row[8:68, 96:126] == COLORS[2]).all()
    below = row[68:]
    assert below.min() < 100  # the captions
    assert (row[:8] == 255).all()


def test_panel_gives_a_long_caption_its_room() -> None:
    row = panel([("a caption wider than its picture", grey(20, 20))], height=20)

    assert row.shape[1] > 200
    columns = np.flatnonzero((row[8:28] == 100).all(axis=(0, 2)))
    assert len(columns) == 20
    assert abs(columns.mean() - (row.shape[1] - 1) / 2) <= 1
    # Nothing of the caption is cut off.
    assert (row[:, 0] == 255).all()
    assert (row[:, -1] == 255).all()


def test_panel_without_captions_has_no_line_for_them() -> None:
    assert panel([("", grey(20, 20))], height=20).shape == (36, 36, 3)


def test_panel_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="columns: expected at least one"):
        panel([])


def test_legend_shows_every_color_and_wraps() -> None:
    names = ["background", "road", "pavement"]

    one_line = legend(names, COLORS, width=500)
    three_lines = legend(names, COLORS, width=100)

    for paper in (one_line, three_lines):
        for color in COLORS:
            assert (paper == color).all(axis=-1).sum() == 12 * 12
    assert one_line.shape == (38, 500, 3)
    assert three_lines.shape[0] == 38 + 2 * 22


def test_legend_is_as_wide_as_its_longest_name() -> None:
    paper = legend(["a name that is longer than the paper is wide"], COLORS[:1], width=50)

    assert paper.shape[1] > 200
    assert (paper[:, -8:] == 255).all()


def test_legend_takes_a_font_of_the_system_for_letters_beyond_english(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, large, load = (
        ImageFont.load_default(15),
        ImageFont.load_default(30),
        ImageFont.truetype,
    )
    asked: list[str] = []

    def truetype(font: Any, *options: Any, **named: Any) -> Any:
        if not isinstance(font, str):
            return load(font, *options, **named)  # Pillow's own
        asked.append(font)
        if font == "DejaVuSans.ttf":
            raise OSError("no such font")
        return large

    plain = legend(["strasse"], COLORS[:1], width=10)
    monkeypatch.setattr(ImageFont, "truetype", truetype)
    assert legend(["strasse"], COLORS[:1], width=10).shape == plain.shape
    assert not asked

    larger = legend(["stra\u00dfe"], COLORS[:1], width=10)
    assert asked == ["DejaVuSans.ttf", "NotoSans-Regular.ttf"]
    assert larger.shape[1] > 8 + 20 + 1.5 * own.getlength("stra\u00dfe")


def test_legend_wants_one_color_for_each_name() -> None:
    with pytest.raises(InputError, match="each of the 2 names, got 3"):
        legend(["sky", "road"], COLORS, width=100)


def test_sheet_fills_up_narrow_rows() -> None:
    both = sheet([grey(4, 10), grey(3, 6)])

    assert both.shape == (7, 10, 3)
    assert (both[:4] == 100).all()
    assert (both[4:, :6] == 100).all()
    assert (both[4:, 6:] == 255).all()


def test_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="rows: expected at least one"):
        sheet([])


def test_write_png_is_read_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    path = tmp_path / "overlays" / "one.png"

    write_png(path, grey(2, 2))
    write_png(path, image)

    assert np.array_equal(np.array(Image.open(path)), image)
    assert list(path.parent.iterdir()) == [path]


def test_figures_of_real_pictures(shared: Path) -> None:
    camvid = shared / "data" / "camvid"
    names = (camvid / "classes.txt").read_text().split()
    colors: list[Color] = [(40 * (i % 6), 255 - 20 * i, 20 * i) for i in range(len(names))]
    name = "0001TP_006690"
    image = np.array(Image.open(camvid / "images" / "train" / f"{name}.jpg"))
    truth = np.array(Image.open(camvid / "masks" / "train" / f"{name}.png"))
    points = np.array(Image.open(camvid / "points" / f"{name}.png"))

    drawn = draw_seeds(image, points, colors)
    row = panel([("points", drawn), ("truth", colorize(truth, colors))])
    paper = sheet([row, legend(names, colors, width=row.shape[1])])

    for index in np.unique(points[points != 255]):
        one_class = draw_seeds(image, np.where(points == index, index, 255), colors)
        assert (one_class == colors[index]).all(axis=-1).sum() >= (points == index).sum() * 20
    assert paper.shape[1] == row.shape[1] == 3 * 8 + 2 * 400
