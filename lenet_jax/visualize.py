"""Draws what is inside a trained network, a PNG for each topic.

python -m lenet_jax.visualize
python -m lenet_jax.visualize maps saliency --picture photo.jpg
python -m lenet_jax.visualize kernels table --network lenet5-classic --out figures
python -m lenet_jax.visualize training --network runs/classic
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lenet_jax import commandline
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.recognition import networks

TOPICS = {
    "kernels": "the kernels of C1",
    "table": "which maps of S2 each map of C3 reads (Table I), with the kernels",
    "codes": "F6 beside the codes of the ten classes (Fig. 3), with their penalties",
    "maps": "every map of every layer for one digit (Fig. 2, Fig. 13)",
    "top-nine": "what each map saw in the nine test images that excite it most",
    "occlusion": "how the score falls and the prediction changes when a part is covered",
    "saliency": "the gradient of the winning score with respect to the input",
    "training": "the maps in each checkpoint of a run, an animated GIF",
}
WITHOUT_IMAGES = ("kernels", "table")
OF_LENET5 = ("kernels", "table", "codes")
OF_MAPS = ("maps", "top-nine", "training")
SHOWN = 3  # the class of the digit that is drawn where no picture is given


def main(arguments: Sequence[str]) -> int:
    """Draws the topics and prints the files; returns 0, or 2 where one could not be drawn."""
    given = parse(arguments)
    check(given)
    commandline.set_up_jax()

    from rich.console import Console

    with Console(stderr=True).status("loading") as status:
        from lenet_jax.inspection import drawings

        history, name = open_networks(given)
        drawn = history[-1]
        given.topics = applying(given.topics, drawn)
        images = open_images(given)
        code = 0
        for topic in given.topics:
            status.update(f"drawing {topic}")
            shown, words = images.get(topic, ([], ""))
            try:
                if topic == "training":
                    path = given.out / "training.gif"
                    caption = f"{given.network}; {words}"
                    frames = drawings.training(history, *shown, caption=caption)
                    drawings.save_gif(counted(frames, len(history), status), path)
                else:
                    path = given.out / f"{topic}.png"
                    draw = getattr(drawings, topic.replace("-", "_"))
                    caption = f"{name}; {words}" if words else name
                    figure = draw(drawn.module, drawn.params, *shown, caption=caption)
                    figure.savefig(path, dpi=120, metadata={"Software": None})
            except UserError as error:
                commandline.log(f"error: {error}")
                code = 2
                continue
            print(path, flush=True)
    return code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    listed = "\n".join(f"  {topic:11}{what}" for topic, what in TOPICS.items())
    topics = f"Topics (default: all that can be drawn):\n{listed}"
    parser = commandline.parser("visualize", f"{__doc__}\n{topics}")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to draw, see above")
    parser.add_argument("--network", **commandline.NETWORK)
    parser.add_argument("--trust-page", **commandline.TRUST_PAGE)
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help=f"your own picture of a digit (default: the first {SHOWN} of the test set, MNIST's or "
        "without MNIST that of the embedded digits)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="(default: pictures/, in a folder named by the network and what is shown)",
    )
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.topics) - set(TOPICS)):
        raise UserError(f"no topic {unknown[0]!r}. There are: {', '.join(TOPICS)}")
    return given


def check(given: argparse.Namespace) -> None:
    """Raises UserError for what can be told from the files alone, before jax is imported."""
    run = networks.check(given.network, trust_page=given.trust_page)
    if run and tuple(shape := run.get("dataset_shape", SHAPE)) != SHAPE:
        raise UserError(
            f"{given.network} takes images of {'x'.join(map(str, shape))}, and what is drawn are "
            f"grey ones of {'x'.join(map(str, SHAPE))}. Give another network"
        )
    model = run["model"]["is"].rpartition(":")[2] if run else "LeNet5"
    if model != "LeNet5" and (asked := sorted(set(given.topics) & set(OF_LENET5))):
        raise UserError(f"the topic {asked[0]} is of a LeNet5, and {given.network} holds a {model}")
    if run is None and "training" in given.topics:
        raise UserError("the topic training needs the folder of a run: --network runs/classic")
    given.topics = given.topics or [
        topic
        for topic in TOPICS
        if (topic != "training" or run) and (topic not in OF_LENET5 or model == "LeNet5")
    ]
    if given.picture:
        from lenet_jax.recognition import decoding, parts

        if not parts.find(decoding.read(given.picture)).boxes:
            raise UserError(
                f"{given.picture}: no digit found. Give a picture in which a digit stands out "
                "from its ground"
            )
    given.out = commandline.out_folder(
        given.out
        or commandline.folder_for(
            "pictures", given.network, Path(given.picture).stem if given.picture else "test"
        )
    )


def open_networks(given: argparse.Namespace) -> tuple[list[networks.TrainedNetwork], str]:
    """The networks in the order of training, the last of which is drawn, and its name."""
    found = networks.history(given.network, commandline.log, given.trust_page)
    name = ", ".join(filter(None, (given.network, found[-1].when)))
    if "training" in given.topics:
        commandline.log(f"{given.network} has {', '.join(n.when for n in found)}")
        if len(found) < 2:
            commandline.log(
                "training: only one checkpoint, so nothing moves. A run keeps more with --keep 20"
            )
    return found, name


def applying(topics: Sequence[str], drawn: networks.TrainedNetwork) -> list[str]:
    """The topics that a network has something to show for; tells which it has not."""
    import numpy as np

    from lenet_jax.inspection import activations

    _, maps = activations.states(drawn.module, drawn.params, np.zeros((1, *SHAPE), np.uint8))
    without = [topic for topic in topics if topic in OF_MAPS and not maps]
    if not hasattr(drawn.module, "frame") and "top-nine" in topics and maps:
        without.append("top-nine")  # what a unit sees is looked for in the package's frames
    if without:
        commandline.log(
            f"left out: {', '.join(without)}, for networks of the package, or with (scores, maps)"
        )
    return [topic for topic in topics if topic not in without]


def open_images(given: argparse.Namespace) -> dict[str, tuple[list[Any], str]]:
    """For each topic with images the argument that they are, and the words for it."""
    import numpy as np

    from lenet_jax.data import dataset

    topics = [topic for topic in given.topics if topic not in WITHOUT_IMAGES]
    digit: tuple[list[Any], str] = [], ""
    test = digit
    if "top-nine" in topics or (topics and not given.picture):
        data = dataset.load(log=commandline.log)
        test = [data.test.images], f"the test set of {data.name}"
        at = int(np.flatnonzero(data.test.labels == SHOWN)[0])
        digit = [data.test.images[at]], f"a {SHOWN}, image {at} of {test[1]}"
    if given.picture:
        from lenet_jax.recognition import reader

        digits = reader.recognize(given.picture, given.network)
        if len(digits) > 1:
            commandline.log(f"{given.picture}: {len(digits)} digits, the first is drawn")
        digit = [digits[0].image], f"the first digit of {Path(given.picture).name}"
    return {topic: test if topic == "top-nine" else digit for topic in topics}


def counted(frames: Iterable[Any], number: int, status: Any) -> Iterator[Any]:
    """The frames as they come, each told."""
    for at, frame in enumerate(frames, 1):
        status.update(f"drawing training: frame {at} of {number}")
        yield frame


if __name__ == "__main__":
    commandline.run(main)
