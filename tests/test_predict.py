"""Digits in pictures are read by the network of the package, as a user would have it."""

import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageDraw

import lenet_jax
from benchmarks import reading
from lenet_jax import pretrained
from lenet_jax.data import dataset
from lenet_jax.errors import UserError
from lenet_jax.recognition import reader
from lenet_jax.recognition.predictor import predictor

pytestmark = pytest.mark.xdist_group("predict")

NUMBER = 30  # pictures of each kind
# Shares that are read rightly, all digits in order, of a sheet each digit counted; on MNIST's
# digits, and on the embedded, drawn on 8x8 pixels by other hands, of which a row is often not
# without a mistake.
AT_LEAST = {
    "scan": (0.96, 0.93),
    "light on dark": (0.96, 0.93),
    "coloured": (0.93, 0.9),
    "photo": (0.93, 0.9),
    "specks": (0.93, 0.9),
    "ruled paper": (0.86, 0.83),
    "row of up to ten": (0.83, 0.4),
    "photo of a row": (0.83, 0.4),
    "row from edge to edge": (0.83, 0.3),
    "black bars": (0.83, 0.7),
    "boxes of a form": (0.7, 0.3),
    "thin pen": (0.8, 0.3),
    "tight crop": (0.8, 0.3),
    "two lines, oblique": (0.8, 0.3),
    "turned page": (0.76, 0.3),
    "28x28 pixels": (0.93, 0.8),
    reading.SHEET: (0.9, 0.85),
    reading.NONE: (0.8, 0.8),
}


@pytest.fixture(scope="module")
def pages(digits, tmp_path_factory):
    """A page with a row of digits, and what they are; a blank one; a folder with both."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(5)
    picture, true = reading.make("row of up to ten", digits[0], digits[1], rng)
    assert len(true) > 2
    Image.fromarray(picture).save(folder / "row.png")
    Image.new("L", (300, 200), 250).save(folder / "white.png")
    return folder, picture, true


@pytest.mark.parametrize("kind", reading.KINDS)
def test_the_share_of_pictures_that_is_read(request, kind, digits):
    images, labels = digits
    of_mnist = "LENET_JAX_MNIST" in os.environ
    if of_mnist:
        folder = request.getfixturevalue("prepared_mnist")
        test = dataset.load(folder, log=lambda _: None).test
        images, labels = np.asarray(test.images), test.labels
    rng = np.random.default_rng(1)
    counts = np.zeros(4, int)
    for _ in range(2 if kind == reading.SHEET else NUMBER):
        picture, true = reading.make(kind, images, labels, rng)
        counts += reading.counted(kind, lenet_jax.recognize(picture), true)
    assert counts[1] >= AT_LEAST[kind][0 if of_mnist else 1] * counts[0]


def test_what_is_printed_is_what_the_library_finds(program, pages, tmp_path):
    folder, picture, true = pages
    found = lenet_jax.recognize(folder / "row.png")
    assert len(found) == len(true)
    marked = tmp_path / "marked.png"
    done = program("predict", folder / "row.png", "--annotate", marked)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    predictions = "".join("?" if digit.rejected else str(digit.label) for digit in found)
    assert first.replace(" ", "") == f"{folder / 'row.png'}:{predictions}"
    assert len(lines) == len(found)
    for line, digit in zip(lines, found, strict=True):
        assert line.split()[0] == str(digit.label)
        assert f"at {digit.box[0]},{digit.box[1]} size {digit.box[2]}x{digit.box[3]}" in line
    drawn = np.asarray(Image.open(marked)).astype(int)
    room = len(drawn) - len(picture)  # above, for predictions that had none
    assert room >= 0 and drawn.shape[1] == picture.shape[1]
    left, top, width, _ = found[0].box
    row = drawn[max(0, room + top - 8) : room + top, left : left + width]  # the first box's edge
    assert (abs(row[..., 0] - row[..., 1]) > 100).any(), "neither green nor red"


def test_json_has_every_number(program, pages):
    folder, _, true = pages
    done = program("predict", folder, "--json")
    assert done.returncode == 0, done.stderr
    row, white = map(json.loads, done.stdout.splitlines())
    nothing = {"digits": [], "lines": [], "turned": 0, "left_out": []}
    assert white == {"picture": str(folder / "white.png")} | nothing
    (line,) = row["lines"]
    assert line["digits"] == list(range(len(true))) and line["marks"] == []
    assert line["text"].replace(" ", "").replace("?", "") in "".join(map(str, true))
    for digit in row["digits"]:
        penalties = digit["penalties"]
        nearest, second = np.argsort(penalties)[:2]
        assert (digit["label"], digit["runner_up"]) == (nearest, second)
        assert digit["score"] == pytest.approx(-penalties[nearest])
        assert 0 < digit["confidence"] <= 1 and len(penalties) == 10
    lefts = [digit["box"][0] for digit in row["digits"]]
    assert lefts == sorted(lefts) and len(lefts) == len(true)


def test_confidence_has_the_rubbish_class_of_eq_9(pages):
    card = pretrained.card(pretrained.READER)
    for digit in lenet_jax.recognize(pages[0] / "row.png"):
        shares = np.exp(-np.array([*digit.penalties, card["config"]["loss"]["j"]]))
        odds = shares[digit.label] / np.delete(shares, digit.label).sum()
        slope, offset = card["calibration"]
        assert digit.confidence == pytest.approx(1 / (1 + odds**-slope * np.exp(-offset)))


def test_standard_input_and_a_blank_page(program, pages):
    done = program("predict", "-", stdin=pages[0] / "white.png")
    assert (done.returncode, done.stdout) == (0, "-: no digits found\n")


def test_a_reader_that_has_enough_is_no_error(program, pages):
    folder, *_ = pages
    with program("predict", folder / "row.png", "--json", start=True) as reading:
        reading.stdout.close()  # as `head` does
        assert reading.stderr.read() == ""
    assert reading.returncode == 0


def test_predictions_closer_than_the_threshold_are_rejected(program, pages):
    done = program("predict", pages[0] / "row.png", "--reject-below", 1e6)
    first, *lines = done.stdout.splitlines()
    assert set(first.split(": ")[1]) - {" "} == {"?"}
    found = lenet_jax.recognize(pages[0] / "row.png", reject_below=0)
    assert [digit.rejected for digit in found] == [digit.rubbish for digit in found]
    for line, digit in zip(lines, found, strict=True):
        reason = "no digit, by the rubbish class" if digit.rubbish else "the runner-up is too close"
        assert line.endswith(f"rejected: {reason}")


def star() -> Image.Image:
    """No digit, though it has the network's runner-up far behind it."""
    turn = np.linspace(-np.pi / 2, 1.5 * np.pi, 10, endpoint=False)
    away = np.where(np.arange(10) % 2, 35, 85)
    corners = np.stack([100 + away * np.cos(turn), 105 + away * np.sin(turn)], axis=1)
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners.tolist()], fill=0)
    return picture


def test_what_the_rubbish_class_beats_is_rejected(program, tmp_path):
    star().save(tmp_path / "star.png")
    marked = tmp_path / "marked.png"
    done = program("predict", tmp_path / "star.png", "--annotate", marked)
    first, line = done.stdout.splitlines()
    assert first == f"{tmp_path / 'star.png'}: ?"
    assert line.endswith("rejected: no digit, by the rubbish class")
    red, green, _ = np.moveaxis(np.asarray(Image.open(marked)).astype(int), -1, 0)
    assert (red - green > 100).any() and not (green - red > 100).any()
    (digit,) = lenet_jax.recognize(star(), reject_below=0)
    assert digit.rejected and digit.rubbish
    assert min(digit.penalties) > pretrained.card(pretrained.READER)["config"]["loss"]["j"]


@pytest.mark.parametrize(
    "loss, own, given, rejected, rubbish",
    [
        ({}, 0.0, None, [0, 0, 0], [0, 0, 0]),
        ({}, 4.0, None, [1, 0, 1], [0, 0, 0]),  # the card's, where none is given
        ({}, 4.0, 0.0, [0, 0, 0], [0, 0, 0]),
        ({}, 4.0, 7.0, [1, 1, 1], [0, 0, 0]),
        ({}, None, None, [0, 0, 0], [0, 0, 0]),
        ({"j": 8.0}, 0.0, None, [0, 0, 1], [0, 0, 1]),
        ({"j": 8.0}, 4.0, 0.0, [0, 0, 1], [0, 0, 1]),  # always
        ({"j": 0.5}, 4.0, None, [1, 1, 1], [0, 1, 1]),  # that class is the runner-up
        ({"j": 8.0}, 2.5, None, [0, 0, 1], [0, 0, 1]),
        ({"j": 2.0}, 2.5, None, [1, 1, 1], [0, 0, 1]),
        ({"j": 8.0}, -2.0, None, [0, 0, 0], [0, 0, 0]),  # it may be ahead by so much
        ({"j": 8.0}, -0.5, None, [0, 0, 1], [0, 0, 1]),
    ],
)
def test_who_is_rejected(pages, loss, own, given, rejected, rubbish):
    """Least penalties of 0, 1 and 9; runners-up that are 3, 6 and 2 behind."""
    card = {"config": {"loss": loss}, "reject_below": own}
    grey = np.full((100, 300), 255, np.float32)
    for left in (50, 150, 250):
        grey[30:70, left : left + 10] = 0

    def scores(images: np.ndarray) -> np.ndarray:
        found = np.full((len(images), 10), -99.0)
        if len(images) == 3:  # not the page turned, or light on dark
            found[:, 4], found[:, 9] = [0, -1, -9], [-3, -7, -11]
        return found

    digits = reader.read(grey, scores, card, given).digits
    assert [(d.label, d.runner_up) for d in digits] == [(4, 9)] * 3
    assert [d.rejected for d in digits] == rejected
    assert [d.rubbish for d in digits] == rubbish


@pytest.mark.parametrize(
    "loss, whole, halves, rest, digits",
    [
        ("MAP", -19, -1, -9, 1),  # a fit to the code is good, whatever the halves'
        ("MAP", -21, -1, -9, 2),
        ("MAP", -21, -25, -30, 1),
        ("ML", -21, -1, -9, 2),
        ("CrossEntropy", 4, 9, 1, 1),  # the difference, of scores as large as they like
        ("CrossEntropy", 2, 9, 1, 2),
        ("CrossEntropy", 2, 1, 0.5, 1),
        ("SquaredError", 1.5, 2, 0, 1),
        ("SquaredError", 0.5, 2, 0, 2),
    ],
)
def test_a_wide_part_is_cut_unless_it_fits(loss, whole, halves, rest, digits):
    """Two strokes that touch: how they fit whole, in two, and in more pieces."""
    grey = np.full((120, 200), 255, np.float32)
    grey[30:90, 40:60] = grey[30:90, 140:160] = grey[58:62, 60:140] = 0

    def scores(images: np.ndarray) -> np.ndarray:
        fits = np.full(len(images), rest, float)
        fits[:3] = whole, halves, halves + 0.1
        penalties = loss in ("MAP", "ML")
        found = np.full((len(images), 10), -99.0 if penalties else 40.0)
        found[:, 1] = fits if penalties else 40 + fits
        return found

    assert len(reader.read(grey, scores, {"config": {"loss": {"is": loss}}}).digits) == digits


def test_the_worst_piece_counts():
    """Halves of which one fits badly are no better than the whole."""
    grey = np.full((120, 200), 255, np.float32)
    grey[30:90, 40:60] = grey[30:90, 140:160] = grey[58:62, 60:140] = 0

    def scores(images: np.ndarray) -> np.ndarray:
        found = np.full((len(images), 10), -99.0)
        found[:3, 1] = -30, -1, -40
        return found

    assert len(reader.read(grey, scores, {"config": {"loss": {"is": "MAP"}}}).digits) == 1


def test_a_bad_picture_does_not_keep_the_others_from_being_read(program, pages, tmp_path):
    (tmp_path / "bad.png").write_text("seven")
    done = program("predict", tmp_path / "bad.png", "nowhere.png", pages[0] / "white.png")
    assert done.returncode == 2 and "white.png: no digits found" in done.stdout
    bad, nowhere = done.stderr.splitlines()
    assert bad.startswith("error: ") and "bad.png is not a picture" in bad
    assert nowhere == "error: nowhere.png: No such file or directory"


@pytest.mark.parametrize(
    "flags, said",
    [
        (("{empty}",), "no pictures here (.png, .jpg"),
        (("{page}", "--network", "lenet9"), "lenet9: no such network, and no folder"),
        (("{page}", "{page}", "--annotate", "x.png"), "--annotate takes one picture, given are 2"),
        (("{page}", "--annotate", "{empty}/no/x.png"), "x.png"),
        (("{page}", "--annotate", "{empty}/x.digits"), "x.digits"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(program, pages, tmp_path, flags, said):
    given = [flag.format(empty=tmp_path, page=pages[0] / "row.png") for flag in flags]
    done = program("predict", *given)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize("given", ["nan", "-1", "some"])
def test_a_difference_is_a_number_from_0(before_jax, given):
    done = before_jax("predict", "x.png", "--reject-below", given)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"--reject-below: {given}: allowed are numbers from 0" in done.stderr


def test_one_compiled_program_serves_any_weights(monkeypatch, digits):
    """The weights are its arguments: a network of others is not compiled again."""
    programs = []

    def noted(function):
        compiled = jit(function)

        def call(*arguments):
            programs.append(compiled.lower(*arguments).as_text())
            return compiled(*arguments)

        return call

    module, params = pretrained.load("lenet5-classic")
    jit = jax.jit
    with monkeypatch.context() as noting:
        noting.setattr(jax, "jit", noted)
        both = [predictor(module, some) for some in (params, pretrained.load("lenet5-best")[1])]
    classic, best = (predict(digits[0][:3]) for predict in both)
    assert not np.allclose(classic, best)
    assert len(programs) == 2 and programs[0] == programs[1]


# ---- what was measured


def shown(name):
    """The rows of a table of README.md, without its head."""
    page = (ROOT / "docs" / "reading.md").read_text()
    (table,) = re.findall(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.DOTALL)
    return table.splitlines()[2:]


@pytest.mark.parametrize("name", ["reading", "reading-public"])
def test_the_tables_are_of_the_committed_records(name):
    record = json.loads((ROOT / "results" / f"{name}.json").read_text())
    assert shown(name) == [
        f"| {kind} | {number} | {record['read'][kind] / number:.1%} |".replace("%", " %")
        for kind, number in record["pictures"].items()
    ]
    assert record["network"] == pretrained.READER and record.get("dataset", "mnist") == "mnist"


@pytest.mark.parametrize("name", ["reading", "reading-public"])
def test_the_page_says_how_many_right_digits_are_rejected(name):
    record = json.loads((ROOT / "results" / f"{name}.json").read_text())
    right, rejected = (sum(record[key].values()) for key in ("right digits", "of them rejected"))
    page = " ".join((ROOT / "docs" / "reading.md").read_text().split())
    assert re.search(f"Of {right:,} (made )?digits that were read rightly, {rejected} are", page)


def test_the_readme_says_how_other_peoples_pictures_are_read():
    record = json.loads((ROOT / "results" / "reading-public.json").read_text())
    read, number = (sum(record[key].values()) for key in ("read", "pictures"))
    pages = record["read"]["photo-page"], record["pictures"]["photo-page"]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"Of {number} pictures that other people took" in said
    assert (
        f"it reads {read / number:.0%} exactly, and {pages[0]} of {pages[1]} pages".replace(
            "%", " %"
        )
        in said
        and record["date"] in said
    )


def test_the_page_says_what_the_reader_was_measured_to_do():
    record = json.loads((ROOT / "results" / "reader.json").read_text())
    card, found = pretrained.card(pretrained.READER), record["calibration"]
    assert {name: card[name] for name in ("reject_below", "calibration")} == {
        name: found[name] for name in ("reject_below", "calibration")
    }
    assert card["errors"] == record["errors"][0] and card["data_sha256"] == record["data_sha256"]
    page = " ".join((ROOT / "docs" / "reading.md").read_text().split())
    assert f"It misclassifies {record['errors'][0] / 100:.2f} % of MNIST's test digits" in page
    assert (
        f"Of {found['right']:,} digits that it reads rightly there {found['right_rejected']} are "
        f"rejected, of {found['wrong_digits']} that it does not {found['wrong_digits_rejected']}, "
        f"and of {found['no_digits']:,} pieces that are none {found['no_digits_rejected']:,}. "
        f"Confidences are off by {100 * found['calibration_error']:.1f} % on average"
    ) in page
    _, _, confidence, share = found["reliability"][-1]
    assert abs(confidence - share) < 0.02
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"at 90 % and more on made pages, digits and others, {100 * share:.1f} %" in readme


def test_the_readme_says_what_is_rejected():
    record = json.loads((ROOT / "results" / "rejection.json").read_text())
    found = record["networks"]["best-held-out"]
    assert found["dataset"] == "mnist"
    assert (
        f"of {found['held_out']:,} held-out digits it rejects {found['rejected']}, and "
        f"{found['errors_not_rejected']} of the others are wrong"
    ) in " ".join((ROOT / "docs" / "reading.md").read_text().split())
    for network, best in record["networks"].items():
        card = pretrained.card(f"lenet5-{network.removesuffix('-held-out')}")
        assert (best["j"], best["reject_below"]) == (
            card["config"]["loss"]["j"],
            card["reject_below"],
        )


def test_pictures_are_measured_on_mnist_alone(environment):
    command = [sys.executable, "-m", "benchmarks.reading", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no MNIST")


def test_only_as_many_pictures_as_ever_replace_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    monkeypatch.setattr(
        reading, "made", lambda n, only: {"pictures": {"scan": n}, "read": {"scan": 3}}
    )
    readme = tmp_path / "docs" / "reading.md"
    readme.parent.mkdir()
    readme.write_text("No place for it.\n")
    assert reading.main(["5"]) == 0
    assert "| scan | 5 | 60.0 % |" in capsys.readouterr().out
    with pytest.raises(ValueError):
        reading.main([])
    assert readme.read_text() == "No place for it.\n" and list(readme.parent.iterdir()) == [readme]
    readme.write_text("Before.\n<!-- reading -->\nold\n<!-- /reading -->\nAfter.\n")
    reading.main([])
    before, mark, *_, row, end, after = readme.read_text().splitlines()
    assert (before, after) == ("Before.", "After.") and row == "| scan | 200 | 1.5 % |"
    assert (mark, end) == ("<!-- reading -->", "<!-- /reading -->")
    record = json.loads((tmp_path / "results" / "reading.json").read_text())
    assert record["read"] == {"scan": 3} and record["versions"]["jax"] == jax.__version__
    assert {"commit", "command", "date", "hardware", "network"} <= set(record)


def test_the_library_names_the_networks_there_are():
    with pytest.raises(UserError, match=pretrained.DEFAULT):
        lenet_jax.recognize(np.zeros((50, 50)), network="lenet9")
