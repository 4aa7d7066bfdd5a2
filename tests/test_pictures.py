"""A user's own pictures: digits are found and prepared, or a line says why not."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks import reading
from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding, parts, preparation


@pytest.fixture(scope="module")
def page(digits):
    """Five digits in a row, dark on light, uint8."""
    images, labels = digits
    return reading.make("row of up to ten", images, labels, np.random.default_rng(3))[0]


def png(picture: np.ndarray | Image.Image, **more) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, "PNG", **more)
    return file.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG that says it has side x side pixels, all black, in about 100 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_boxes_hold_each_digit_in_order(digits):
    rng = np.random.default_rng(0)
    canvas = np.full((200, 900), 240.0)
    places = []
    for at, image in enumerate(digits[0][:6]):
        ink = reading.enlarged(image, 80 + 5 * at)
        top, left = 30 + int(rng.integers(40)), 40 + 140 * at
        canvas[top : top + ink.shape[0], left : left + ink.shape[1]] -= 200 * ink
        rows, columns = np.nonzero(ink > 0.5)
        places.append(
            (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
        )
    boxes = parts.find(canvas.astype(np.float32)).boxes
    assert len(boxes) == 6
    np.testing.assert_allclose(boxes, places, atol=2)  # the blur against grain moves edges


def test_two_lines_are_read_one_after_the_other(digits):
    canvas = np.full((300, 400), 255.0, np.float32)
    for at, image in enumerate(digits[0][:4]):
        ink = reading.enlarged(image, 90)
        top, left = 30 + 140 * (at // 2), 60 + 160 * (at % 2)
        canvas[top : top + 90, left : left + ink.shape[1]] -= 255 * ink
    boxes = parts.find(canvas).boxes
    assert [(box[0] > 180, box[1] > 130) for box in boxes] == [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("row, whole", [(0, 1), (1, 2)], ids=["a 3 in halves", "two lines"])
def test_halves_are_one_digit_where_they_are_as_tall_as_another(row, whole):
    """Two strokes, one above the other and close, beside a stroke as tall as both or as one."""
    canvas = np.full((160, 200), 255.0, np.float32)
    canvas[30:70, 120:150] = canvas[74:120, 125:155] = 0
    canvas[(30, 75)[row] : 120, 50:60] = 0
    assert len(parts.find(canvas).boxes) == 1 + whole


@pytest.mark.parametrize(
    "change",
    [
        lambda p: 255 - p,
        lambda p: p * 0.5,
        lambda p: p * np.linspace(1, 0.4, p.shape[1]),
        lambda p: p + np.random.default_rng(0).normal(0, 3, p.shape),
    ],
    ids=["inverted", "darker", "lit from one side", "grain"],
)
def test_the_same_digits_are_found_in_another_light(page, change):
    plain = parts.find(page.astype(np.float32)).boxes
    changed = parts.find(np.clip(change(page.astype(np.float64)), 0, 255).astype(np.float32)).boxes
    assert len(plain) > 1
    np.testing.assert_allclose(changed, plain, atol=2)


def drawn(size, *strokes, width=6):
    """Polylines on white paper, float32."""
    picture = Image.new("L", size, 255)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, fill=40, width=width, joint="curve")
    return np.asarray(picture, np.float32)


THREE = [(40, 35), (70, 30), (98, 45), (65, 72), (98, 95), (70, 120), (40, 112)]


@pytest.mark.parametrize(
    "picture, boxes",
    [
        (drawn((400, 160), [(200, 35), (200, 125)]), [(197, 35, 203, 125)]),
        (drawn((160, 290), [(80, 25), (80, 265)]), [(77, 25, 83, 265)]),
        (drawn((300, 200), *([(x, 30), (x, 170)] for x in (50, 110, 170, 230))),
         [(x - 3, 30, x + 3, 170) for x in (50, 110, 170, 230)]),
        (drawn((400, 160), [(200, 0), (200, 160)]), [(197, 0, 203, 160)]),
        (drawn((420, 150), THREE, [(140, 119), (140, 121)], [(200, 30), (200, 120)],
               [(270, 30), (250, 90), (310, 90)], [(295, 50), (295, 120)]),
         [(39, 28, 101, 122), (197, 30, 203, 120), (247, 30, 312, 120)]),
        (drawn((200, 200), [(30, 30), (165, 30), (80, 180)]), [(30, 27, 168, 183)]),
        (drawn((140, 420), *([(30, y), (110, y), (60, y + 100)] for y in (30, 160, 290))),
         [(30, y - 3, 113, y + 101) for y in (30, 160, 290)]),
        (drawn((120, 160), [(30, 20), (28, 95), (105, 95)], [(70, 50), (70, 145)]),
         [(25, 20, 105, 145)]),
        (drawn((160, 230), [(110, 200), (110, 30), (30, 30), (30, 110), (110, 110)]),
         [(27, 27, 113, 200)]),
    ],
    ids=["1", "1 as tall as the page", "1111", "1 from edge to edge", "3.14", "7",
         "7s in a column", "4", "a square 9"],
)  # fmt: skip
def test_a_straight_stroke_is_no_rule_of_the_paper(picture, boxes):
    np.testing.assert_allclose(parts.find(picture).boxes, boxes, atol=4)


def rules(height, width, apart, across, down, margin=0):
    """A mask of rules, two pixels thick, `margin` pixels from the edges of a picture."""
    mask = np.zeros((height, width), bool)
    inner = mask[margin : height - margin, margin : width - margin]
    for at in range(apart // 2, max(height, width), apart):
        if across:
            inner[at : at + 2] = True
        if down:
            inner[:, at : at + 2] = True
    return mask


def rule(height, width, margin):
    """A mask of one rule through the digits, `margin` pixels from the edges."""
    mask = np.zeros((height, width), bool)
    mask[95:97, margin : width - margin] = True
    return mask


def comb(height, width, apart):
    """A mask of cells side by side, a form's."""
    mask = np.zeros((height, width), bool)
    bottom, right = height - 30, 20 + (width - 40) // apart * apart
    for at in range(20, right + 1, apart):
        mask[30 : bottom + 3, at : at + 3] = True
    mask[30:33, 20 : right + 3] = mask[bottom : bottom + 3, 20 : right + 3] = True
    return mask


@pytest.mark.parametrize(
    "paper",
    [
        rules(200, 300, 45, True, False),
        rules(200, 300, 45, True, True),
        rules(300, 400, 40, True, False, margin=40),
        rules(300, 400, 40, True, True, margin=40),
        rule(300, 300, 0),
        rule(150, 400, 20),
        comb(150, 600, 90),
        comb(160, 200, 160),
    ],
    ids="ruled,squared,ruled sheet,squared sheet,edge to edge,long,comb,frame".split(","),
)
@pytest.mark.parametrize("edges", ["sharp", "of a photo"])
def test_the_rules_of_the_paper_are_no_digits(paper, edges, digits):
    """The digits' boxes are those on blank paper, but for stubs of the rules that cross them."""
    rng = np.random.default_rng(0)
    ink = np.zeros(paper.shape, np.float32)
    for at, image in enumerate(digits[0][[3, 5, 8]][: 1 + (paper.shape[1] > 200)]):
        stroke = reading.enlarged(image, 60)
        left = 70 + 110 * at
        ink[55:115, left : left + stroke.shape[1]] = stroke
    blank = 230 - 190 * ink
    picture = np.minimum(blank, np.where(paper, 60, 255))
    if edges != "sharp":
        light = np.linspace(1, 0.7, paper.shape[1])
        picture = ndimage.gaussian_filter(picture, 0.7) * light + rng.normal(0, 2, paper.shape)
    found = parts.find(picture.astype(np.float32)).boxes
    expected = parts.find(blank.astype(np.float32)).boxes
    np.testing.assert_allclose(found, expected, atol=8)


@pytest.mark.parametrize(
    "top, bottom, apart, down",
    [(60, 150, 40, False), (24, 56, 40, False), (46, 115, 80, False), (66, 164, 40, True)],
    ids=["across rules", "between rules", "nearly from rule to rule", "squared"],
)
def test_ones_on_ruled_paper_are_read(top, bottom, apart, down):
    """A row of them; on squared paper each in a square of its own."""
    paper = np.where(rules(200, 600, apart, True, down), 120, 255)
    lefts = [120, 160, 200, 480]
    ones = drawn((600, 200), *([(x, top), (x, bottom)] for x in lefts))
    boxes = parts.find(np.minimum(paper, ones).astype(np.float32)).boxes
    expected = [(x - 3, top, x + 3, bottom) for x in lefts]
    np.testing.assert_allclose(boxes, expected, atol=4)


def thin(image):
    """A digit of 90 pixels' height, its strokes half as wide; None if that broke one."""
    away: Any = ndimage.distance_transform_edt(np.pad(reading.enlarged(image, 90), 1) > 0.5)
    drawn = (away > 0) & (away >= 0.5 * ndimage.maximum_filter(away, 15))
    rows, columns = np.nonzero(drawn)
    labelled: Any = ndimage.label(drawn, np.ones((3, 3)))
    cut = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return cut if labelled[1] == 1 else None


@pytest.mark.parametrize("margin", [0, 1, 2, 6, 10])
def test_a_row_in_a_tight_crop_has_its_digits(margin, digits):
    """25 rows of five."""
    strokes = [s for s in map(thin, digits[0][:300]) if s is not None]
    for row in (strokes[at : at + 5] for at in range(0, 125, 5)):
        height, left, places = max(map(len, row)), margin, []
        ink = np.zeros((height + 2 * margin, sum(s.shape[1] + 25 for s in row) - 25 + 2 * margin))
        for stroke in row:
            tall, wide = stroke.shape
            places.append((left, margin, left + wide, margin + tall))
            ink[margin : margin + tall, left : left + wide] = stroke
            left += wide + 25
        boxes = parts.find((235 - 195 * ink).astype(np.float32)).boxes
        np.testing.assert_allclose(boxes, places, atol=10)  # the tip of a hook may be lost


@pytest.mark.parametrize(
    "strokes",
    [
        [(slice(0, 200), slice(250, 256))],
        [(slice(120, 200), slice(250, 256))],
        [(slice(50, 90), slice(280, 286)), (slice(70, 76), slice(286, 300))],
    ],
    ids=["far taller than the digit", "below the digit, as tall", "half as tall"],
)
def test_what_touches_the_edge_is_no_digit(strokes, digits):
    ink = np.zeros((200, 300), np.float32)
    digit = reading.enlarged(digits[0][3], 80)
    ink[30:110, 100 : 100 + digit.shape[1]] = digit
    (alone,) = parts.find(235 - 195 * ink).boxes
    for stroke in strokes:
        ink[stroke] = 1
    assert parts.find(235 - 195 * ink).boxes == [alone]


@pytest.mark.parametrize(("left", "number"), [(0, 1), (1, 2)])
def test_what_is_a_pixel_from_the_edge_does_not_touch_it(left, number):
    canvas = np.full((90, 120), 255.0, np.float32)  # too small to be smoothed
    canvas[20:70, 60:75] = canvas[30:50, left : left + 6] = 0
    assert len(parts.find(canvas).boxes) == number


def test_a_bar_far_above_a_tall_stroke_is_joined_to_it():
    """By the height of the stroke, not of the bar, which comes first on the page."""
    for bar, top in ((40, 40), (20, 62)):  # 12 and 32 pixels apart; alone it is too small
        canvas = np.full((240, 200), 255.0, np.float32)
        canvas[bar : bar + 10, 60:100] = canvas[62:162, 60:100] = 0
        ((_, found, _, bottom),) = parts.find(canvas).boxes
        assert (abs(found - top) <= 1, abs(bottom - 162) <= 1) == (True, True)


def test_in_a_tight_crop_of_two_lines_a_digit_stands_beside_those_of_its_own_line():
    canvas = np.full((300, 400), 255.0, np.float32)
    canvas[30:110, 0:20] = canvas[30:110, 100:130] = canvas[170:250, 100:130] = 0
    boxes = parts.find(canvas).boxes
    assert [(box[0] < 50, box[1] > 130) for box in boxes] == [(1, 0), (0, 0), (0, 1)]


def test_of_too_many_parts_the_largest_are_looked_at(monkeypatch):
    monkeypatch.setattr(parts, "MOST", 3)
    canvas = np.full((200, 400), 255.0, np.float32)
    for at, height in enumerate((40, 60, 50, 70, 45)):
        canvas[50 : 50 + height, 40 + 70 * at : 60 + 70 * at] = 0
    boxes = parts.find(canvas).boxes
    heights = [round((bottom - top) / 5) * 5 for _, top, _, bottom in boxes]
    assert heights == [60, 50, 70]


def test_a_prepared_digit_is_framed_as_mnist_is(page):
    found = parts.find(page.astype(np.float32))
    for box in found.boxes:
        image = preparation.prepare(found.ink, box).astype(float)
        assert image.shape == (28, 28) and image.max() > 200
        rows, columns = np.nonzero(image > 0)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        np.testing.assert_allclose(ndimage.center_of_mass(image), 13.5, atol=0.51)


def test_a_thin_stroke_is_thickened_alike_at_every_size():
    """Also where its box has no room of its own for that."""
    for height in range(160, 168):
        ink = np.zeros((200, 40), np.float32)
        ink[10 : 10 + height, 18:21] = 1
        image = preparation.prepare(ink, (18, 10, 21, 10 + height)).astype(float)
        assert image[14].sum() / 255 == pytest.approx(1.75, abs=0.25)


def test_a_part_that_touches_is_cut_where_there_is_least_ink(digits):
    left, right = (reading.enlarged(image, 100) for image in digits[0][[0, 5]])
    ink = np.zeros((120, left.shape[1] + right.shape[1] + 20), np.float32)
    ink[10:110, 10 : 10 + left.shape[1]] = left
    ink[10:110, 10 + left.shape[1] : -10] = right
    ink[60:64, left.shape[1] - 5 : left.shape[1] + 25] = 1  # a stroke that joins them
    box = 10, 10, ink.shape[1] - 10, 110
    whole, halves, *_ = parts.ways_to_cut(ink, box)
    assert whole == [box]
    assert abs(halves[0][2] - (10 + left.shape[1])) < 15 and len(halves) == 2
    assert halves[0][2] <= halves[1][0]


@pytest.mark.parametrize(
    "form",
    [
        lambda p: Image.fromarray(p),
        lambda p: Image.fromarray(p).convert("RGB"),
        lambda p: Image.fromarray(p).convert("P"),
        lambda p: Image.fromarray(p).convert("RGB").convert("CMYK"),
        lambda p: Image.fromarray(p.astype(np.uint16) * 257),
        lambda p: Image.fromarray(p.astype(np.int32) * 257, "I"),
        lambda p: Image.fromarray(p.astype(np.float32)),
        lambda p: p,
        lambda p: np.stack([p] * 3, axis=-1),
        lambda p: p.astype(np.float64) / 255,
    ],
    ids=["L", "RGB", "palette", "CMYK", "16 bit", "I", "F", "array", "colour array", "0 to 1"],
)
def test_every_form_of_picture_has_the_same_grey_levels(page, form):
    np.testing.assert_allclose(decoding.read(form(page)), page, atol=3)  # CMYK and palette round


@pytest.mark.parametrize("pen, paper", [(0, 255), (100, 255), (160, 0), (255, 0)])
def test_what_is_transparent_is_paper(page, pen, paper):
    ink = (255 - page).clip(60) - 60
    rgba = np.stack([np.full_like(ink, pen)] * 3 + [ink], axis=-1)
    grey = decoding.read(png(rgba))
    assert grey[ink == 0].mean() == paper
    np.testing.assert_allclose(grey, paper + (pen - paper) * (ink / 255), atol=1)


def test_a_photo_taken_sideways_is_turned_upright(page):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = Image.fromarray(page).transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    np.testing.assert_allclose(decoding.read(file.getvalue()), page, atol=0.01)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "not a picture"),
        (b"seven", "not a picture"),
        (bomb(), "megapixels"),
        (png(np.zeros((28, 28), np.uint8))[:-30], "damaged"),
    ],
    ids=["empty", "text", "bomb", "truncated"],
)
def test_what_is_no_picture_is_refused(content, said):
    with pytest.raises(UserError, match=said):
        decoding.read(content)


def test_a_truncated_jpeg_is_damaged(page):
    file = io.BytesIO()
    Image.fromarray(page).save(file, "JPEG")
    with pytest.raises(UserError, match="damaged"):
        decoding.read(file.getvalue()[: len(file.getvalue()) // 2])


@pytest.mark.parametrize(
    "array, said",
    [
        (np.full((30, 30), np.nan), "none of them NaN"),
        (np.full((30, 30), 300), "values from 300 to 300"),
        (np.full((30, 30), -1), "from -1"),
        (np.zeros(30), "no picture"),
        (np.zeros((2, 30, 30, 3)), "no picture"),
        (np.zeros((30, 30, 2)), "no picture"),
        (np.zeros((0, 30)), "no picture"),
        (np.array([["a"]]), "no picture"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, said):
    with pytest.raises(UserError, match=said):
        decoding.read(array)


def test_a_picture_of_a_pixel_holds_no_digit():
    with pytest.raises(UserError, match="1 x 1 pixels"):
        parts.find(decoding.read(np.zeros((1, 1), np.uint8)))


@pytest.mark.parametrize(
    "picture",
    [
        np.full((300, 200), 255.0),
        np.full((300, 200), 0.0),
        np.full((28, 28), 17.0),
        np.linspace(40, 220, 300)[None] + np.zeros((200, 1)),
        200 + np.random.default_rng(0).normal(0, 6, (300, 300)),
    ],
    ids=["white", "black", "small", "gradient", "grain"],
)
def test_a_blank_page_has_no_digits(picture):
    assert parts.find(picture.astype(np.float32)).boxes == []


def test_a_thin_1_beside_a_fat_digit_is_no_speck():
    """It has a fourteenth of the other's ink."""
    canvas = np.full((90, 160), 255.0, np.float32)
    canvas[10:80, 20:60] = canvas[12:78, 100:103] = 0
    assert len(parts.find(canvas).boxes) == 2


def test_a_page_with_specks_alone_has_no_digits():
    canvas = np.full((60, 60), 255.0, np.float32)
    canvas[[10, 30, 45], [12, 40, 20]] = 0
    assert parts.find(canvas).boxes == []
