"""Pictures of phones and scanners: every format, turned, large, damaged."""

import io
import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pillow_heif
import pytest
from conftest import ROOT
from PIL import Image, ImageDraw

from lenet_jax.data import encoded, pictures
from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding

pillow_heif.register_heif_opener()  # for the tests to write HEIC
SIDEWAYS = {0x0112: 6}  # EXIF: to be turned by 90 degrees clockwise, so what is above comes right


def file_of(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def exif_of(tags):
    exif = Image.Exif()
    exif.update(tags)
    return exif.tobytes()


def half_black(mode="RGB"):
    image = Image.new("RGB", (64, 48), "white")
    image.paste("black", (0, 0, 64, 20))
    return image.convert(mode)


# ---- formats


KINDS = {
    "a.png": "PNG", "a.jpg": "JPEG", "a.jfif": "JPEG", "a.webp": "WEBP", "a.tif": "TIFF",
    "a.avif": "AVIF", "a.heic": "HEIF", "a.HEIF": "HEIF", "a.hif": "HEIF",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_is_turned_once(name, tmp_path):
    (tmp_path / name).write_bytes(file_of(half_black(), KINDS[name], exif=exif_of(SIDEWAYS)))
    shown = decoding.decode(tmp_path / name)
    assert (shown.pixels.shape, shown.pixels.dtype, shown.scale) == ((64, 48, 3), np.uint8, 1)
    assert shown.pixels[:, :26].min() > 240 and shown.pixels[:, 30:].max() < 15
    with Image.open(tmp_path / name) as image:  # the user's own, which stays as it was
        size = image.size
        np.testing.assert_array_equal(decoding.pixels(image), shown.pixels)
        assert image.size == size


def test_a_heic_turns_itself_and_says_so_in_its_exif_too():
    """As telephones write it; the test above would be passed by a file with only one of both."""
    content = file_of(half_black(), "HEIF", exif=exif_of(SIDEWAYS))
    assert b"irot" in content and bytes.fromhex("0112 0003 00000001 0006") in content


def test_without_its_extra_a_heic_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = file_of(half_black(), "HEIF")
    (tmp_path / "a.heic").write_bytes(heic)
    for source in (heic, tmp_path / "a.heic"):
        with pytest.raises(UserError, match=r"pip install 'lenet_jax\[heic\]'"):
            decoding.decode(source)
    with pytest.raises(UserError, match=r"lenet_jax\[heic\]"):  # among pictures to train on
        encoded.decoded(heic, 32)
    assert decoding.pixels(file_of(half_black(), "AVIF")).shape == (48, 64, 3)


def test_a_heic_is_trained_on():
    exif = exif_of(SIDEWAYS)
    shown = encoded.decoded(file_of(half_black(), "HEIF", exif=exif), 48)
    assert shown[:, :26].min() > 240 and shown[:, 30:].max() < 15


def test_no_picture_of_a_folder_is_passed_over(program, tmp_path):
    for name in ("IMG_1.HEIC", "b.heif", "c.avif", "d.jfif", "e.hif"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("L", (300, 200), 250).save(tmp_path / "white.png")
    done = program("predict", tmp_path)
    assert done.returncode == 2 and done.stdout.endswith("white.png: no digits found\n")
    said = [
        line.partition(": ")[2].split(" is not a picture")[0] for line in done.stderr.split("\n")
    ]
    assert said[:-1] == [
        str(tmp_path / name) for name in ("IMG_1.HEIC", "b.heif", "c.avif", "d.jfif", "e.hif")
    ]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_is_read_alike(mode, monkeypatch):
    monkeypatch.setattr(decoding, "ROWS", 7)  # the last strip is shorter
    expected = np.asarray(half_black("L"), np.float32)
    np.testing.assert_allclose(decoding.read(half_black(mode)), expected, atol=1e-3)


def test_sixteen_bits_keep_their_steps():
    steps = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    for most, kind in ((65535, "PNG"), (4095, "TIFF")):
        shown = decoding.read(file_of(Image.fromarray(steps * (most // 4095)), kind))
        np.testing.assert_allclose(shown, steps * (most // 4095) * (255 / 65535), atol=1e-3)
        assert len(np.unique(shown)) == 256
    some = np.array([[np.nan, -10, 500], [np.inf, 0, 245]], np.float32)
    assert (decoding.read(Image.fromarray(some)) >= 0).all()
    some[1, 0] = 245
    np.testing.assert_allclose(
        decoding.read(Image.fromarray(some)), [[0, 0, 255], [127.5, 5, 127.5]], atol=0.01
    )


def test_behind_what_is_clear_lies_paper(monkeypatch):
    monkeypatch.setattr(decoding, "ROWS", 3)
    for ink, paper in ((20, 255), (230, 0)):
        levels = np.full((10, 8, 4), ink, np.uint8)
        levels[..., 3] = 0
        levels[4:6, :, 3] = 255
        levels[6, :, 3] = 51  # one fifth
        shown = decoding.read(levels)
        np.testing.assert_allclose(shown[4:6], ink, atol=1e-3)
        np.testing.assert_allclose(shown[6], ink / 5 + paper * 4 / 5, atol=0.01)
        np.testing.assert_array_equal(shown[[0, 1, 2, 3, 7, 8, 9]], paper)
    np.testing.assert_array_equal(decoding.read(np.zeros((5, 5, 4), np.uint8)), 255)


@pytest.mark.parametrize("given", [None, 7, ["a.png"], np.zeros((3, 3, 2)), np.full((3, 3), -1)])
def test_what_is_no_picture(given):
    with pytest.raises(UserError, match="no picture|allowed are 0 to 255"):
        decoding.decode(given)


# ---- large ones


@pytest.fixture
def small_limits(monkeypatch):
    """Of 1,200 pixels kept, 5,000 and 80,000 allowed."""
    for name, pixels in (("KEPT", 1200), ("MEGAPIXELS", 5000), ("OF_JPEG", 80_000)):
        monkeypatch.setattr(decoding, name, pixels / 1_000_000)


@pytest.mark.parametrize(
    "size, scale",
    [
        ((80, 59), 1),
        ((80, 60), 2),
        ((61, 80), 2),
        ((159, 120), 2),
        ((160, 120), 4),
        ((321, 241), 8),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_large_jpeg_is_reduced_to_what_is_kept(small_limits, kind, size, scale):
    page = Image.new("RGB", size, "white")
    left, right = size[0] // 10, size[0] // 2
    top, bottom = size[1] // 2, size[1] * 9 // 10
    page.paste("black", (left, top, right, bottom))
    more = {"save_all": True, "append_images": [page]} if kind == "MPO" else {}
    for exif, turned in ((b"", False), (exif_of(SIDEWAYS), True)):
        content = file_of(page, kind, exif=exif, **more)
        assert Image.open(io.BytesIO(content)).format == kind
        found = decoding.decode(content)
        assert found.scale == scale
        height, width = found.pixels.shape[:2]
        whole = (width * scale, height * scale)[:: -1 if turned else 1]
        assert all(0 <= big - given < scale for big, given in zip(whole, size, strict=True))
        assert width * height >= 1200 or scale == 1
        rows, columns = np.nonzero(decoding.grey(found.pixels) < 128)
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale
        upright = (
            (size[1] - bottom, left, size[1] - top, right) if turned else (left, top, right, bottom)
        )
        np.testing.assert_allclose(edges, upright, atol=scale)


def in_three_scans(size):
    """A grey JPEG's only scan as each of three, one for each colour."""
    content = file_of(Image.new("L", size, 255), "JPEG")
    frame, scan = content.find(b"\xff\xc0"), content.find(b"\xff\xda")
    height_and_width = content[frame + 5 : frame + 9]
    three = b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    start = b"\xff\xc0\x00\x11\x08" + height_and_width + b"\x03" + three
    scans = [b"\xff\xda\x00\x08\x01" + bytes([n]) + content[scan + 6 : -2] for n in (1, 2, 3)]
    return content[:frame] + start + content[frame + 13 : scan] + b"".join(scans) + content[-2:]


def test_a_jpeg_that_is_held_whole_is_not_reduced(small_limits):
    for size, allowed in (((80, 60), True), ((80, 65), False)):
        page = Image.new("RGB", size, "white")
        for content in (
            file_of(page, "JPEG", progressive=True),
            in_three_scans(size),
            file_of(page, "PNG"),
            file_of(page, "HEIF"),
            page,
            np.asarray(page),
        ):
            if allowed:
                found = decoding.decode(content)
                assert (found.pixels.shape, found.scale) == ((60, 80, 3), 1)
                continue
            with pytest.raises(UserError, match="(80 x 65|65, 80).*allowed are .*Make it smaller"):
                decoding.decode(content)
    assert decoding.decode(file_of(Image.new("RGB", (80, 65)), "JPEG")).scale == 2
    with pytest.raises(UserError, match="400 x 201 pixels, allowed are"):
        decoding.decode(file_of(Image.new("L", (400, 201)), "JPEG"))
    with pytest.raises(UserError, match="allowed are 0.0025|allowed are 0"):
        decoding.decode(file_of(Image.new("L", (60, 60)), "JPEG2000"))


def test_the_limits_are_those_of_telephones():
    assert (decoding.KEPT, decoding.MEGAPIXELS, decoding.OF_JPEG) == (12, 50, 250)


MEASURED = """
import sys
from pathlib import Path
from PIL import Image, ImageOps
from lenet_jax.recognition import decoding
Image.init()

def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

before = most()
grey = decoding.read(sys.argv[1])
print(*grey.shape, round(float(grey[-1, -1])), most() - before)
"""


def shaded(mode, width, height):
    """A picture that is dark above and light below; nothing of it is a page of zeros."""
    rows = Image.linear_gradient("L").resize((width, height), Image.Resampling.BILINEAR)
    if mode == "I;16":
        return Image.fromarray(np.asarray(rows, np.uint16) * 257)
    image = Image.merge("RGB", [rows] * 3).convert(mode)
    if mode == "RGBA":
        image.putalpha(rows)
    return image


@pytest.mark.skipif(
    sys.platform != "linux", reason="no /proc to read a program's memory from (Linux)"
)
@pytest.mark.parametrize(
    "mode, kind, megapixels, allowed, more",
    [
        ("RGB", "JPEG", 12, 200, {}),
        ("RGB", "JPEG", 47, 600, {}),
        ("RGB", "JPEG", 50, 200, {}),
        ("RGB", "JPEG", 200, 200, {}),
        ("RGB", "JPEG", 50, 800, {"progressive": True, "subsampling": 0}),
        ("CMYK", "JPEG", 47, 600, {}),
        ("RGBA", "PNG", 40, 800, {"compress_level": 1}),
        ("I;16", "PNG", 40, 800, {"compress_level": 1}),
        ("P", "PNG", 40, 800, {"compress_level": 1, "transparency": bytes(range(256))}),
        ("RGBA", "WEBP", 50, 1000, {"method": 0, "lossless": True, "quality": 0}),
    ],
)
def test_memory_is_bounded(tmp_path, mode, kind, megapixels, allowed, more):
    """Mebibytes more than before it is read, in a process of its own.

    By its VmHWM: getrusage's ru_maxrss begins, in a process that is started, with its parent's.
    """
    height = round((0.75 * megapixels * 1e6) ** 0.5) - 8
    width = height * 4 // 3
    shaded(mode, width, height).save(tmp_path / "a", kind, **more)
    command = [sys.executable, "-c", MEASURED, tmp_path / "a"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, columns, last, used = done.stdout.split()
    assert int(rows) * int(columns) >= 11.9e6 and int(last) > 200
    assert float(used) < allowed


# ---- damaged ones


def test_no_format_starts_a_program_or_is_read_that_is_not_named(tmp_path, monkeypatch):
    """For EPS Pillow calls `gs`, which here tells that it was; whatever the file is called."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for kind in ("EPS", "DDS", "ICO", "TGA", "PCX", "SGI"):
        named = tmp_path / "digit.png"
        Image.new("RGB", (64, 64), 255).save(named, kind)
        for source in (named, named.read_bytes()):
            with pytest.raises(decoding.NoPicture, match="PNG, JPEG, .*HEIC"):
                decoding.read(source)
    assert not (tmp_path / "called").exists()
    for kind in pictures.FORMATS:
        Image.new("L", (64, 64), 255).save(tmp_path / "digit", kind)
        assert decoding.read(tmp_path / "digit").shape == (64, 64)


def samples():
    image = Image.new("L", (90, 70), 255)
    ImageDraw.Draw(image).line([(20, 10), (70, 20), (40, 60)], fill=0, width=8)
    colours, clear, few = image.convert("RGB"), image.convert("RGBA"), image.convert("P")
    deep = Image.fromarray(np.asarray(image, np.uint16) * 200)
    exif = {"exif": exif_of(SIDEWAYS)}
    return [
        file_of(clear, "PNG", **exif),
        file_of(deep, "PNG"),
        file_of(few, "PNG", transparency=3),
        file_of(colours, "JPEG", **exif),
        file_of(colours, "JPEG", progressive=True),
        file_of(image.convert("CMYK"), "JPEG"),
        file_of(few, "GIF"),
        file_of(clear, "WEBP", **exif),
        file_of(clear, "WEBP", lossless=True),
        file_of(colours, "BMP"),
        file_of(image.convert("1"), "BMP"),
        file_of(colours, "TIFF", compression="tiff_lzw", **exif),
        file_of(deep, "TIFF"),
        file_of(image.convert("F"), "TIFF"),
        file_of(image.convert("1"), "TIFF", compression="group4"),
        file_of(clear, "AVIF"),
        file_of(colours, "HEIF", **exif),
        file_of(clear, "HEIF"),
        file_of(image, "PPM"),
        file_of(colours, "JPEG2000"),
        file_of(colours, "MPO", save_all=True, append_images=[colours]),
    ]


def damaged(content, rng):
    content = bytearray(content)
    match rng.randrange(4):
        case 0:
            for _ in range(rng.randrange(1, 9)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            del content[rng.randrange(len(content)) :]
        case 2:  # two pieces change places
            n = rng.randrange(1, len(content) // 4)
            one, other = (rng.randrange(len(content) - n) for _ in range(2))
            content[one : one + n], content[other : other + n] = (
                content[other : other + n],
                content[one : one + n],
            )
        case _:  # the head
            for _ in range(rng.randrange(1, 4)):
                content[rng.randrange(64)] = rng.randrange(256)
    return bytes(content)


def test_damage_gives_a_picture_or_a_complaint():
    rng, whole, read = random.Random(0), samples(), 0
    for n in range(210):
        content = damaged(whole[n % len(whole)], rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the decoders', of what is damaged
                levels = decoding.read(content)
        except UserError:
            continue
        read += 1
        assert levels.size and levels.min() >= 0 and levels.max() <= 255.01
    assert 20 < read < 190  # of both there are some
