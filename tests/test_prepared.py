"""TFDS's copies when they are damaged, made twice at once, or were given up half-made."""

import subprocess
import sys

import numpy as np
import pytest

from lenet_jax.data import prepared
from lenet_jax.errors import UserError

SHAPE = 28, 28
TINY = """
import sys, time
from pathlib import Path
import numpy as np
from lenet_jax.data import prepared

def examples(split, files):
    for number in range(5):
        time.sleep(PAUSE)
        print("example", file=sys.stderr, flush=True)
        image = np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8)
        yield number, {"image": prepared.png(image), "label": number}

of = prepared.Set(
    title="Tiny", name="tiny", version="1.0.0", splits=("train", "test"), urls={}, homepage="",
    ways="nothing", examples=examples, features=lambda tfds: {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    },
)
FILES = {"file": Path("folder/file")}
"""
MAKING = """
def log(line):
    print(line, file=sys.stderr, flush=True)

found = prepared.prepare(of, Path(sys.argv[1]), FILES, log)
print(prepared.sha256_of(prepared.read(of, found, (28, 28), lambda: FILES, log)))
"""


def making(data_dir, pause):
    """A program that prepares the set, so many seconds an example."""
    return subprocess.Popen(
        [sys.executable, "-c", f"PAUSE = {pause}\n{TINY}{MAKING}", data_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, words):
    while words not in (line := process.stderr.readline()):
        assert line, process.communicate()


@pytest.fixture(scope="module")
def tiny():
    names = {"PAUSE": 0}
    exec(TINY, names)
    return names["of"], names["FILES"]


@pytest.fixture
def copy(tiny, tmp_path):
    """A data_dir with the set, what is in it, and the sum of that."""
    of, files = tiny
    assert prepared.prepare(of, tmp_path, files, print) == tmp_path
    arrays = prepared.read(of, tmp_path, SHAPE, lambda: files, print)
    assert sorted(arrays["train_labels"]) == [0, 1, 2, 3, 4]
    return tmp_path, prepared.sha256_of(arrays)


def test_nothing_is_left_beside_a_set(copy):
    data_dir, _ = copy
    assert {p.name for p in data_dir.iterdir()} <= {"tiny", "downloads", ".preparing-tiny.lock"}
    assert [p.name for p in (data_dir / "tiny").iterdir()] == ["1.0.0"]


def test_two_programs_make_it_once(tmp_path):
    with making(tmp_path, 1) as first:  # 10 s: the other is there before it has ended
        wait_for(first, "example")
        with making(tmp_path, 1) as second:
            (sum_1, told_1), (sum_2, told_2) = first.communicate(), second.communicate()
    assert first.returncode == second.returncode == 0, (told_1, told_2)
    assert sum_1 == sum_2 and len(sum_1.strip()) == 64
    assert told_1.count("example") == 9  # and the one that was waited for
    assert "another program is preparing Tiny" in told_2 and "example" not in told_2


def test_what_a_killed_program_had_begun_is_thrown_away(tmp_path):
    with making(tmp_path, 0.3) as process:
        wait_for(process, "example")
        process.kill()
    begun = tmp_path / ".preparing-tiny"
    assert begun.exists() and not (tmp_path / "tiny").exists()
    with making(tmp_path, 0) as process:
        sum256, told = process.communicate()
    assert process.returncode == 0 and len(sum256.strip()) == 64, told
    assert not begun.exists() and [p.name for p in (tmp_path / "tiny").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "deleted"])
def test_damaged_records_are_made_anew_or_named(copy, tiny, monkeypatch, how):
    """Each file of the copy; decoded.npz is gone."""
    data_dir, sum256 = copy
    of, files = tiny
    folder = of.folder(data_dir)
    (folder / "decoded.npz").unlink()
    monkeypatch.setenv("LENET_JAX_OFFLINE", "1")
    for file in sorted(folder.iterdir()):
        before = file.read_bytes()
        content = bytearray(before)
        content[len(content) // 2] ^= 4
        if how == "deleted":
            file.unlink()
        else:
            file.write_bytes({"flipped": content, "cut": before[: len(before) // 2]}.get(how, b""))
        try:  # without a word of the originals
            if reason := prepared.missing(of, data_dir, None):
                raise UserError(reason)
            found = prepared.prepare(of, data_dir, None, print)
            arrays = prepared.read(of, found, SHAPE, lambda: None, print)
        except UserError as error:
            assert str(data_dir) in str(error)
        else:
            assert prepared.sha256_of(arrays) == sum256, file.name
        said = []
        found = prepared.prepare(of, data_dir, files, said.append)
        arrays = prepared.read(of, found, SHAPE, lambda: files, said.append)
        assert prepared.sha256_of(arrays) == sum256, (file.name, said)
        (folder / "decoded.npz").unlink(missing_ok=True)


def test_any_bit_of_the_decoded_copy_may_be_flipped(copy, tiny):
    """A zip file: its headers, its directory and the arrays. Without a word of the originals."""
    data_dir, sum256 = copy
    of, _ = tiny
    decoded = of.folder(data_dir) / "decoded.npz"
    whole = decoded.read_bytes()
    rng = np.random.default_rng(0)
    places = {
        *range(0, 128),
        *range(len(whole) - 700, len(whole)),
        *rng.integers(0, len(whole), 99),
    }
    for place in sorted(places)[::3]:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        decoded.write_bytes(content)
        arrays = prepared.read(of, data_dir, SHAPE, lambda: None, lambda _: None)
        assert prepared.sha256_of(arrays) == sum256


def test_what_is_left_of_one_killed_when_all_but_done_is_thrown_away_too(copy, tiny):
    data_dir, _ = copy
    begun = data_dir / ".preparing-tiny" / "tiny"
    begun.mkdir(parents=True)
    of, files = tiny
    assert prepared.prepare(of, data_dir, files, print) == data_dir
    assert not begun.parent.exists() and (data_dir / "tiny" / "1.0.0").exists()
