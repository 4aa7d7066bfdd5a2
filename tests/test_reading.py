"""Pages as people photograph them: lines, marks, light, attitude; what is told of them."""

import json
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import lenet_jax
from lenet_jax.recognition import reader
from lenet_jax.segmentation import ink, lines, parts, preparation, rules

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

pytestmark = pytest.mark.xdist_group("predict")

SEVEN_SEGMENTS = {  # strokes (x, y) of digits that nobody takes for others, about 1 high
    0: [
        [
            (0.15, 0),
            (0.45, 0),
            (0.6, 0.3),
            (0.6, 0.7),
            (0.45, 1),
            (0.15, 1),
            (0, 0.7),
            (0, 0.3),
            (0.15, 0),
        ]
    ],
    1: [[(0.3, 0), (0.3, 1)]],
    2: [[(0, 0), (0.6, 0), (0.6, 0.5), (0, 0.5), (0, 1), (0.6, 1)]],
    4: [[(0.1, 0), (0, 0.55), (0.65, 0.55)], [(0.45, 0.15), (0.45, 1)]],
    5: [[(0.6, 0), (0, 0), (0, 0.45), (0.6, 0.45), (0.6, 1), (0, 1)]],
    7: [[(0, 0), (0.6, 0), (0.25, 1)]],
}


def page(rows, size, height=80, pen=9, apart=1.2, fall=0.0, top=None):
    """Grey levels of lines of digits, drawn; `fall` pixels down for each to the right."""
    image = Image.new("L", size, 235)
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        for place, digit in enumerate(row):
            left = 60 + place * apart * height
            down = (top or height) + 2.2 * number * height + fall * left
            for stroke in SEVEN_SEGMENTS[int(digit)]:
                points = [(left + height * x, down + height * y) for x, y in stroke]
                draw.line(points, 40, pen, "curve")
    return np.asarray(image, np.float32)


def labels(picture):
    return "".join(str(digit.label) for digit in lenet_jax.recognize(picture))


# ---- lines


@pytest.mark.parametrize("degrees", [-15, -4.3, 0, 4.3, 15])
def test_lines_may_rise_and_fall(degrees):
    """Boxes in a grid, turned about its middle: line by line, whatever the angle."""
    rng = np.random.default_rng(0)
    angle = np.radians(degrees)
    middles = [(90 * column, 130 * row) for row in range(4) for column in range(7)]
    boxes = []
    for x, y in middles:
        right = x * np.cos(angle) - y * np.sin(angle) + rng.uniform(-8, 8)
        down = x * np.sin(angle) + y * np.cos(angle) + rng.uniform(-8, 8)
        wide, tall = rng.uniform(15, 30), rng.uniform(25, 35)
        boxes.append(
            (round(right - wide), round(down - tall), round(right + wide), round(down + tall))
        )
    shuffled = rng.permutation(len(boxes))
    found = lines.arranged([boxes[at] for at in shuffled])
    assert [[int(shuffled[at]) for at in line] for line in found] == [
        list(range(7 * row, 7 * row + 7)) for row in range(4)
    ]


def test_digits_above_one_another_are_lines_of_their_own():
    boxes = [(50 + 3 * n, 100 * n, 90 + 3 * n, 100 * n + 60) for n in (3, 0, 2, 1)]
    assert lines.arranged(boxes) == [[1], [3], [2], [0]]
    assert lines.arranged([]) == []


def boxed(*lefts, width=40, height=60):
    return [(left, 100, left + width, 100 + height) for left in lefts]


def test_a_wide_gap_is_a_space():
    assert lines.spaces(boxed(0, 60, 120, 300, 360)) == [False, False, False, True, False]
    assert lines.spaces(boxed(0, 150, 300)) == [False] * 3  # all alike
    assert lines.spaces(boxed(5)) == [False]


MARKS = {  # of digits 60 pixels tall that stand at 160
    ".": [(52, 150, 60, 160)],
    ",": [(52, 148, 60, 172)],
    ":": [(52, 112, 60, 120), (53, 145, 61, 153)],
    "-": [(44, 126, 66, 132)],
}


@pytest.mark.parametrize("mark", MARKS)
def test_marks_are_known_by_place_and_size(mark):
    boxes = boxed(0, 70, 140)
    found = lines.marks(boxes, MARKS[mark])
    assert [text for text, _ in found] == [mark]
    assert lines.text(boxes, ["3", "1", "4"], found) == f"3{mark}14"


@pytest.mark.parametrize(
    "box", [(52, 100, 60, 108), (52, 158, 53, 159), (300, 150, 308, 160), (44, 154, 66, 160)]
)
def test_what_stands_elsewhere_is_no_mark(box):
    """A dot at the top, a speck, a dot far away, a stroke on the line."""
    assert lines.marks(boxed(0, 70, 140), [box]) == []


@pytest.mark.parametrize("text", ["12.07", "12:47", "7-4"])
def test_a_mark_is_read_and_no_digit(text):
    grey = page(["".join(c for c in text if c.isdigit())], (620, 260))
    at = min(text.find(c) for c in ".:-" if c in text)
    left = int(60 + at * 96 - (37 if text[at] == "-" else 26))
    for top, bottom in {".": [(148, 160)], ":": [(95, 107), (140, 152)], "-": [(114, 122)]}[
        text[at]
    ]:
        grey[top:bottom, left : left + (26 if text[at] == "-" else 12)] = 40
    found = reader.read(grey, *reader.reader("lenet5-reader"))
    assert found.text.replace(" ", "") == text
    (mark,) = found.lines[0].marks
    assert abs(mark.box[0] - left) <= 3 and mark.text == text[at]


def test_a_slash_is_a_mark_and_a_1_is_none():
    """A slash leans and is taller than what it stands between; a 1 does one of these at most."""

    def drawn(lean, tall):
        image = Image.new("L", (760, 300), 235)
        draw = ImageDraw.Draw(image)
        for place, digit in ((0, 2), (1, 4), (3, 0), (4, 7)):
            for stroke in SEVEN_SEGMENTS[digit]:
                left = 60 + 110 * place
                points = [(left + 80 * x, 100 + 80 * y) for x, y in stroke]
                draw.line(points, 40, 9, "curve")
        half = 40 * tall
        draw.line([(305 - lean * half, 140 + half), (305 + lean * half, 140 - half)], 40, 9)
        return reader.read(np.asarray(image, np.float32), *reader.reader("lenet5-reader"))

    assert drawn(lean=0.5, tall=1.6).text == "24/07"
    assert drawn(lean=0.05, tall=1.6).text.replace(" ", "") == "24107"
    assert drawn(lean=0.3, tall=1.0).text.replace(" ", "") == "24107"
    found = drawn(lean=0.5, tall=1.6)
    (mark,) = found.lines[0].marks
    assert mark.text == "/" and len(found.digits) == 4 and abs(mark.box[0] - 273) < 8


def test_a_slash_stands_between_two_others():
    """Of four parts the first, the second and the last are strokes that lean and are tall."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line([(9, 24), (19, 4)], 255, 2)
    leaning, broad = np.asarray(image), np.full((28, 28), 255, np.uint8)
    boxes = [(50 * at, 0, 50 * at + 20, height) for at, height in enumerate((60, 60, 40, 60))]
    found = lines.slashes(boxes, [leaning, leaning, broad, leaning])
    assert found == [False, True, False, False]
    assert lines.slashes(boxes, [leaning, leaning[:, ::-1], broad, leaning]) == [False] * 4


def test_how_a_stroke_lies():
    """A bar of 20 by 2 pixels: its moments, squares of lengths, are as 100 to 1."""
    for degrees in (-60, -20, 0, 20, 60):
        image = Image.new("L", (280, 280))
        ends = np.radians(90 - degrees)
        x, y = 100 * np.cos(ends), 100 * np.sin(ends)
        ImageDraw.Draw(image).line([(140 - x, 140 + y), (140 + x, 140 - y)], 255, 20)
        small = np.asarray(image.resize((28, 28), Image.Resampling.BOX))
        longer, leaning = preparation.stroke(small)
        assert leaning == pytest.approx(degrees, abs=1)
        assert longer == pytest.approx((20 / 2) ** 2, rel=0.4)  # pixels are coarse
    longer, _ = preparation.stroke(np.full((28, 28), 255, np.uint8))
    assert longer == pytest.approx(1)


# ---- light and attitude


def test_a_stroke_beside_the_edge_takes_nothing_with_it():
    """As much ink is found near the right edge as in the middle, and none beyond the strokes."""
    grey = np.full((400, 600), 200, np.float32)
    for left in (100, 300, 580):
        grey[150:250, left : left + 12] = 60
    found = ink.find_ink(grey, light=False) >= 0.5
    assert found[160:240, 582:590].all() and found[160:240, 302:310].all()
    assert not found[:, 330:570].any() and not found[:140].any()


def test_what_is_beside_the_paper_is_no_ink():
    grey = np.full((300, 400), 210, np.float32)
    grey[:, :60] = grey[:, 350:] = 5
    grey[120:180, 200:208] = 120
    found = ink.find_ink(grey, light=False) >= 0.5
    assert found[125:175, 202:206].all() and found.sum() < 1.5 * 60 * 8


def test_a_stroke_that_pales_goes_on():
    """It fades to a quarter of its blackness; the same shade alone is none."""
    grey = np.full((300, 500), 220, np.float32)
    grey[100:108, 50:450] = np.linspace(60, 165, 400)
    found = ink.find_ink(grey, light=False) >= 0.5
    assert found[102:106, 60:440].all()


@pytest.mark.parametrize("light", [False, True])
def test_the_hole_of_a_figure_is_no_digit(light):
    """A broad arch around a slot, which is upright and narrow as a 1 is; and a real one."""
    grey = np.full((200, 260), 230, np.float32)
    grey[60:140, 40:110] = 30
    grey[80:140, 65:85] = 230
    grey[20:180, 150:250] = 30
    grey[60:140, 190:210] = 230
    levels = 255 - grey if light else grey
    boxes = [(65, 80, 85, 140), (190, 60, 210, 140)]
    shown = np.zeros_like(grey)
    for left, top, right, bottom in boxes:
        shown[top:bottom, left:right] = 1
    assert ink.are_holes(levels, shown, boxes) == [True, False]
    with warnings.catch_warnings(action="error"):  # a pixel around is no paper to compare with
        assert ink.are_holes(levels[:21, :31], shown[:21, :31] + 1, [(0, 0, 31, 20)]) == [False]


@pytest.mark.parametrize("figure", ["n", "m", "E", "A", "star"])
def test_figures_with_holes_are_rejected(figure):
    """The paper between their strokes has the shapes of digits."""
    picture = Image.new("L", (300, 300), 235)
    draw = ImageDraw.Draw(picture)
    if figure == "star":
        turn = np.arange(11) * np.pi / 5
        away = np.where(np.arange(11) % 2, 40, 90)
        points = np.stack([150 + away * np.sin(turn), 150 - away * np.cos(turn)], axis=1)
        draw.line([tuple(point) for point in points.tolist()], 60, 14, "curve")
    else:
        font = ImageFont.truetype(str(FONTS / "DejaVuSans-Bold.ttf"), 110)
        draw.text((150, 150), figure, 60, font, anchor="mm")
    found = reader.read(np.asarray(picture, np.float32), *reader.reader("lenet5-reader"))
    assert found.digits and all(digit.rejected for digit in found.digits)


@pytest.mark.parametrize("turned", range(4))
@pytest.mark.parametrize("light", [False, True])
def test_any_attitude_is_read_and_told(turned, light):
    """Boxes are in the picture as it is given."""
    grey = page(["2457120"], (800, 260))
    given = np.rot90(255 - grey if light else grey, -turned)
    found = reader.read(given.copy(), *reader.reader("lenet5-reader"))
    assert found.text.replace(" ", "") == "2457120" and found.turned == 90 * turned
    left_over = given.copy()
    for digit in found.digits:
        left, top, width, height = digit.box
        left_over[max(0, top - 3) : top + height + 3, max(0, left - 3) : left + width + 3] = given[
            0, 0
        ]
    assert (left_over == given[0, 0]).all() and (given != given[0, 0]).any()


def test_a_dark_corner_or_a_bright_one_does_not_decide():
    grey = page(["24571"], (800, 600), height=50, top=230)
    down, right = np.mgrid[:600, :800]
    glare = 1 + 1.1 * np.exp(-((right - 150) ** 2 + (down - 600) ** 2) / (2 * 160**2))
    assert labels((grey * glare * 0.45).astype(np.uint8)) == "24571"


# ---- rules, and strokes as straight


@pytest.mark.parametrize("side", [120, 160, 300])
@pytest.mark.parametrize("digit", [1, 4, 7])
def test_a_straight_stroke_is_no_rule(digit, side):
    grey = page([str(digit)], (side, side), height=0.7 * side, pen=side // 25, top=0.15 * side)
    grey = np.roll(grey, int(0.15 * side) - 60, axis=1) if side < 300 else grey
    assert labels(grey.astype(np.uint8)) == str(digit)


@pytest.mark.parametrize("left", [20, 100, 180])
def test_one_rule_that_a_digit_crosses_is_a_rule(left):
    """From edge to edge, though the digit parts it; the digit stays where it is."""
    image = Image.new("1", (300, 240))
    draw = ImageDraw.Draw(image)
    draw.ellipse((left, 60, left + 80, 200), outline=1, width=12)
    digit = np.asarray(image).copy()
    draw.line([(0, 130), (299, 130)], 1, 2)
    found = rules.find_rules(np.asarray(image))
    assert found[129:131, : left - 8].any(axis=0).all()
    assert found[129:131, left + 90 :].any(axis=0).all()
    assert (found & digit).sum() < 0.02 * digit.sum() and not found[:120].any()


def test_one_rule_from_which_a_digit_hangs_is_a_rule():
    """Nothing is above it, but the bar of the 7 lies on it all the way."""
    image = Image.new("1", (300, 240))
    draw = ImageDraw.Draw(image)
    draw.line([(120, 104), (190, 104), (140, 210)], 1, 12)
    digit = np.asarray(image).copy()
    draw.line([(0, 100), (299, 100)], 1, 2)
    found = rules.find_rules(np.asarray(image))
    assert found[99:101, :100].any(axis=0).all() and found[99:101, 210:].any(axis=0).all()
    assert (found & digit).sum() < 0.02 * digit.sum()


def test_a_small_picture_has_rules():
    """77 pixels wide, an 8 of 27 in the middle of a rule."""
    image = Image.new("1", (77, 90))
    draw = ImageDraw.Draw(image)
    draw.ellipse((28, 24, 44, 38), outline=1, width=4)
    draw.ellipse((27, 36, 45, 52), outline=1, width=4)
    digit = np.asarray(image).copy()
    draw.line([(0, 44), (76, 44)], 1, 2)
    found = rules.find_rules(np.asarray(image))
    assert found[43:46, :22].any(axis=0).all() and found[43:46, 50:].any(axis=0).all()
    assert (found & digit).sum() < 0.05 * digit.sum()


@pytest.mark.parametrize("beyond", [False, True])
def test_windows_are_scipys(beyond):
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.1, 0.9)
        length, axis = 2 * int(rng.integers(0, 30)) + 1, int(rng.integers(2))
        edge: Any = {"axis": axis, "mode": "constant", "cval": beyond}
        most = ndimage.maximum_filter1d(mask, length, **edge)
        least = ndimage.minimum_filter1d(mask, length, **edge)
        np.testing.assert_array_equal(rules.dilated(mask, length, axis, beyond), most)
        np.testing.assert_array_equal(rules.eroded(mask, length, axis, beyond), least)


def test_the_bars_of_two_digits_are_not_one_line():
    """75 in a tight crop: their bars are in one row and reach both edges, and nothing crosses."""
    mask = np.zeros((90, 140), bool)
    mask[2:8, :56] = mask[2:8, 84:] = True
    mask[2:90, 50:56] = mask[2:50, 84:90] = mask[44:50, 84:140] = True
    _, places = rules._lines(mask)
    assert [tuple(place[:2]) for place in places] == [(0, 50), (90, 140), (90, 140)]


@pytest.mark.parametrize("fall", [-0.03, 0, 0.021])
def test_oblique_rules_are_no_digits(fall):
    grey = page(["245712"], (1000, 420), height=100, apart=1.4, fall=fall, top=150)
    columns = np.arange(1000)
    for first in (40, 160, 280, 390):
        bent = first + fall * columns + 3 * np.sin(columns / 300)
        for at, row in zip(columns, bent.astype(int), strict=True):
            grey[max(0, row) : row + 3, at] = 80
    assert labels(grey.astype(np.uint8)) == "245712"


# ---- nothing is lost without a word


def test_a_sheet_of_hundreds_is_read_at_full_size():
    """Of 4000 pixels, digits of 26: 25 rows and 24 columns of them."""
    rows = [("0124570245" * 3)[:24]] * 25
    image = page(rows, (4000, 2600), height=26, pen=3, apart=5, top=40).clip(0, 255)
    image = image[:, :3300]
    found = reader.read(image, *reader.reader("lenet5-reader"))
    assert len(found.digits) == 600 and len(found.lines) == 25
    wrong = sum(
        a.replace(" ", "") != b for a, b in zip((x.text for x in found.lines), rows, strict=True)
    )
    assert wrong <= 2


def test_what_is_cut_off_by_the_edge_is_told(program, tmp_path):
    grey = page(["2457"], (600, 300))
    grey[:45, 300:310] = 40
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "cut.png")
    done = program("predict", tmp_path / "cut.png")
    assert "left out: 1 at the edge of the picture" in done.stdout
    told = json.loads(program("predict", tmp_path / "cut.png", "--json").stdout)
    assert told["left_out"] == ["1 at the edge of the picture"]
    assert [line["text"].replace(" ", "") for line in told["lines"]] == ["2457"]


def test_more_parts_than_are_looked_at_are_told(monkeypatch):
    monkeypatch.setattr(parts, "MOST", 3)
    found = reader.read(page(["24571"], (640, 260)), *reader.reader("lenet5-reader"))
    assert len(found.digits) == 3 and found.left_out == ["2 parts, the smallest of 5"]


def test_every_step_is_explained(program, tmp_path):
    Image.fromarray(page(["245"], (400, 260)).astype(np.uint8)).save(tmp_path / "row.png")
    done = program("predict", tmp_path / "row.png", "--explain", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "why" / "1-row"
    assert sorted(p.name for p in folder.iterdir()) == ["1-ink.png", "1-pieces.txt", "1-seen.png"]
    pieces = (folder / "1-pieces.txt").read_text().splitlines()
    assert sum(line.endswith("chosen") for line in pieces) == 3
    assert Image.open(folder / "1-ink.png").size == (400, 260)


def test_a_folder_that_cannot_be_written_is_told_first(program, tmp_path):
    (tmp_path / "file").write_text("")
    done = program("predict", tmp_path / "none.png", "--explain", tmp_path / "file")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: --explain {tmp_path / 'file'}: File exists. Give a folder that can be written\n"
    )
