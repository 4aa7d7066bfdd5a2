"""Reads the digits in pictures, or names what they show.

python -m lenet_jax.predict scan.png more/*.jpg
python -m lenet_jax.predict folder --json
python -m lenet_jax.predict photo.jpg --annotate read.png
cat scan.png | python -m lenet_jax.predict -
python -m lenet_jax.predict photo.jpg --network runs/alexnet-shapes
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_jax import commandline
from lenet_jax.errors import UserError
from lenet_jax.recognition import networks, objects

CLASSES = 5  # of the object in a picture, the likeliest


def main(arguments: Sequence[str]) -> int:
    """Prints what is read in each picture; returns 0, or 2 where one could not be opened."""
    given = parse(arguments)
    names = named(given.pictures)
    if given.annotate:
        check_annotate(given.annotate, len(names))
    run = networks.check(given.network, trust_page=given.trust_page)
    networks.require_single(given.network, run)
    of_digits = objects.shows_digits(run or {})
    if not of_digits and (given.annotate or given.explain or given.reject_below is not None):
        raise UserError(
            f"{given.network} names the one object that a picture shows, and --annotate, --explain "
            "and --reject-below are for digits. Leave them out"
        )

    if given.explain:
        commandline.out_folder(given.explain, "explain")

    commandline.set_up_jax()
    from lenet_jax.recognition import answers, decoding, explanation, reader

    scores, card = reader.reader(given.network, given.trust_page)
    code = 0
    for number, name in enumerate(names, 1):
        try:
            picture = decoding.decode(sys.stdin.buffer.read() if name == "-" else name)
            pixels = picture.pixels
            if not of_digits:
                classes = objects.classify(pixels, scores, card)[:CLASSES]
                print((named_as_json if given.json else named_as_text)(name, classes), flush=True)
                continue
            grey = decoding.grey(pixels)
            tried = reader.attempts(grey, scores, card, given.reject_below)
            found = reader.answer(tried, picture.scale)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
            continue
        print(as_json(name, found) if given.json else as_text(name, found), flush=True)
        if given.annotate:
            answers.annotate(pixels, reader.answer(tried).digits).save(given.annotate)
        if given.explain:
            explanation.write(given.explain / f"{number}-{Path(name).stem}", tried)
    return code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = commandline.parser("predict", __doc__)
    parser.add_argument(
        "pictures", nargs="+", help="files, folders of them, or - for standard input"
    )
    parser.add_argument("--network", **commandline.READER)
    parser.add_argument("--trust-page", **commandline.TRUST_PAGE)
    parser.add_argument(
        "--reject-below",
        type=difference,
        metavar="D",
        help="reject a prediction whose two best scores differ by less, the rubbish class's among "
        "them (default: the network's own; a run's is 0)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each picture")
    parser.add_argument("--annotate", type=Path, metavar="PNG", help="draw the predictions onto it")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="write what was found at each step, a folder for each picture: ink, parts, what the "
        "network saw and took them for",
    )
    return parser.parse_args(arguments)


def difference(text: str) -> float:
    """The number in a text; raises ArgumentTypeError unless it is 0 or more."""
    try:
        if (number := float(text)) >= 0:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text}: allowed are numbers from 0")


def named(given: Sequence[str]) -> list[str]:
    """The pictures that files and folders name; raises UserError for a folder without any."""
    from lenet_jax.recognition import decoding
    from lenet_jax.recognition.decoding import SUFFIXES

    names: list[str] = []
    for name in given:
        if name != "-" and Path(name).is_dir():
            found = decoding.files(Path(name))
            if not found:
                raise UserError(f"{name}: no pictures here ({', '.join(SUFFIXES)})")
            names += map(str, found)
        else:
            names.append(name)
    return names


def check_annotate(file: Path, number: int) -> None:
    """Raises UserError unless there is one picture, and a file of this name can be written."""
    from lenet_jax.data.pictures import WRITTEN

    if number > 1:
        raise UserError(f"--annotate takes one picture, given are {number}")
    if file.suffix.lower() not in WRITTEN:
        known = ", ".join(WRITTEN)
        raise UserError(f"--annotate {file}: the name must end in one of {known}")
    if not file.parent.is_dir():
        raise UserError(f"--annotate {file}: there is no folder {file.parent}")


def as_text(name: str, found: Any) -> str:
    """The lines of the picture, what was left out, and a line for each digit."""
    lines = [f"{name}: {line.text}" for line in found.lines] or [f"{name}: no digits found"]
    if found.turned:
        lines.append(f"  read after a turn by {found.turned} degrees counterclockwise")
    lines += [f"  left out: {sentence}" for sentence in found.left_out]
    for d in found.digits:
        left, top, width, height = d.box
        lines.append(
            f"  {d.label}  confidence {d.confidence:.3f}  score {d.score:.1f}  "
            f"runner-up {d.runner_up}  at {left},{top} size {width}x{height}"
            + (f"  rejected: {reason(d)}" if d.rejected else "")
        )
    return "\n".join(lines)


def reason(digit: Any) -> str:
    """Why a prediction is rejected."""
    return "no digit, by the rubbish class" if digit.rubbish else "the runner-up is too close"


def as_json(name: str, found: Any) -> str:
    """A JSON object in a line: the picture's name, its digits without their images, its lines."""
    from lenet_jax.recognition import answers

    return json.dumps({"picture": name, **answers.plain(found)})


def named_as_text(name: str, classes: Sequence[objects.Candidate]) -> str:
    """The likeliest class in one line, and a line for each."""
    width = max(len(each.name) for each in classes)
    lines = [
        f"  {each.name:{width}}  confidence {each.confidence:.3f}  score {each.score:.1f}"
        for each in classes
    ]
    return "\n".join([f"{name}: {classes[0].name}", *lines])


def named_as_json(name: str, classes: Sequence[objects.Candidate]) -> str:
    """A JSON object in a line: the picture's name and its likeliest classes."""
    return json.dumps({"picture": name, "classes": [dataclasses.asdict(c) for c in classes]})


if __name__ == "__main__":
    commandline.run(main)
