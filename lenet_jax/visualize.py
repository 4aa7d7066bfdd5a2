"""Draws what is inside a trained network, a PNG for each topic.

python -m lenet_jax.visualize
python -m lenet_jax.visualize maps saliency --picture photo.jpg
python -m lenet_jax.visualize kernels table --network lenet5-classic --out figures
python -m lenet_jax.visualize training development --network runs/classic
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
    "kernels": "the kernels of the first layer, of LeNet-5 C1",
    "table": "which maps of S2 each map of C3 reads (Table I), with the kernels",
    "codes": "F6 beside the codes of the ten classes (Fig. 3), with their penalties",
    "maps": "every map of every layer for one digit (Fig. 2, Fig. 13)",
    "top-nine": "what each map saw in the nine test images that excite it most",
    "deconvnet": "what excites maps in these images, projected down to the pixels",
    "occlusion": "how score, prediction and the strongest map change when a part is covered",
    "saliency": "the gradient of the winning score with respect to the input",
    "development": "what excites maps most after each checkpoint of a run",
    "training": "the maps in each checkpoint of a run, an animated GIF",
}
WITHOUT_IMAGES = ("kernels", "table")
OF_TEST_SET = ("top-nine", "deconvnet", "development")
OF_RUN = ("development", "training")
OF_LENET5 = ("table", "codes")
OF_MAPS = ("maps", "top-nine", "training")
OF_KERNELS = ("kernels", "deconvnet", "development")
PROJECTED = ("deconvnet", "development")
SHOWN = 3  # the class of the image that is drawn where no picture is given


def main(arguments: Sequence[str]) -> int:
    """Draws the topics and prints the files; returns 0, or 2 where one could not be drawn."""
    given = parse(arguments)
    check(given)
    commandline.set_up_jax()

    from rich.console import Console

    with Console(stderr=True).status("loading") as status:
        from lenet_jax.inspection import drawings, features

        history, name = open_networks(given)
        drawn = history[-1]
        given.topics = applying(given, drawn)
        images = open_images(given, drawn.shape)
        of_images = {"top-nine": features.top_nine, "deconvnet": features.deconvolved}
        code = 0
        for topic in given.topics:
            status.update(f"drawing {topic}")
            shown, words = images[topic]
            try:
                caption = f"{given.network if topic in OF_RUN else name}; {words}".strip("; ")
                if topic == "training":
                    path = given.out / "training.gif"
                    frames = drawings.training(history, *shown, caption=caption)
                    drawings.save_gif(counted(frames, len(history), status), path)
                else:
                    path = given.out / f"{topic}.png"
                    if topic == "development":
                        figure = features.development(history, *shown, caption=caption)
                    else:
                        draw = of_images.get(topic) or getattr(drawings, topic)
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
    listed = "\n".join(f"  {topic:13}{what}" for topic, what in TOPICS.items())
    topics = f"Topics (default: all that can be drawn):\n{listed}"
    parser = commandline.parser("visualize", f"{__doc__}\n{topics}")
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to draw, see above")
    parser.add_argument("--network", **commandline.NETWORK)
    parser.add_argument("--trust-page", **commandline.TRUST_PAGE)
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help=f"your own picture of a digit (default: the first {SHOWN} of the test set: of a run's "
        "own data, else MNIST's or without MNIST that of the embedded digits)",
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
    networks.require_single(given.network, run)
    shape = tuple((run or {}).get("dataset_shape", SHAPE))
    sized = "x".join(map(str, shape))
    if shape[2:] not in ((), (1,), (3,)):
        raise UserError(
            f"{given.network} takes images of {sized}, and what is drawn are grey ones and those "
            "of three colours. Give another network"
        )
    if given.picture and shape != SHAPE:
        raise UserError(
            f"{given.network} takes images of {sized}, and --picture finds digits, which are grey "
            f"and {'x'.join(map(str, SHAPE))}. Leave it out: one of the run's own images is drawn"
        )
    model = run["model"]["is"].rpartition(":")[2] if run else "LeNet5"
    if model != "LeNet5" and (asked := sorted(set(given.topics) & set(OF_LENET5))):
        raise UserError(f"the topic {asked[0]} is of a LeNet5, and {given.network} holds a {model}")
    if run is None and (asked := [topic for topic in OF_RUN if topic in given.topics]):
        raise UserError(f"the topic {asked[0]} needs the folder of a run: --network runs/classic")
    given.asked = bool(given.topics)
    given.topics = given.topics or [
        topic
        for topic in TOPICS
        if (topic not in OF_RUN or run) and (topic not in OF_LENET5 or model == "LeNet5")
    ]
    if given.picture:
        from lenet_jax.recognition import decoding
        from lenet_jax.segmentation import ink, parts

        grey = decoding.read(given.picture)
        if not parts.find(grey, ink.light_on_dark(grey)).parts:
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
    if asked := [topic for topic in OF_RUN if topic in given.topics]:
        commandline.log(f"{given.network} has {', '.join(n.when for n in found)}")
        if len(found) < 2:
            commandline.log(
                f"{', '.join(asked)}: only one checkpoint, so nothing moves. A run keeps more with "
                "--keep 20"
            )
    return found, name


def applying(given: argparse.Namespace, drawn: networks.TrainedNetwork) -> list[str]:
    """The topics that a network has something to show for; tells which it has not.

    Raises UserError for one that was asked for.
    """
    without: dict[str, list[str]] = {}
    for topic in given.topics:
        try:
            require(topic, drawn)
        except UserError as error:
            if given.asked:
                raise
            without.setdefault(str(error), []).append(topic)
    for reason, topics in without.items():
        commandline.log(f"left out: {', '.join(topics)}. {reason}")
    return [topic for topic in given.topics if topic not in sum(without.values(), [])]


def require(topic: str, drawn: networks.TrainedNetwork) -> None:
    """Raises UserError for a topic that a network has nothing to show for."""
    from lenet_jax.inspection import activations, deconvnet, drawings

    if topic == "codes":
        drawings.require_codes(drawn.module)
    network = drawn.module, drawn.params, drawn.shape
    if topic in OF_MAPS and not activations.shapes(*network):
        raise UserError(
            f"{type(drawn.module).__name__} returns no maps, as networks of the package do, and "
            "those that return (scores, maps)"
        )
    if topic in OF_KERNELS:
        deconvnet.layers(*network)
    if topic in PROJECTED:
        deconvnet.checked(drawn.module)


def open_images(
    given: argparse.Namespace, shape: tuple[int, ...]
) -> dict[str, tuple[list[Any], str]]:
    """For each topic the argument that its images are, and the words for it."""

    from lenet_jax.data import dataset

    topics = [topic for topic in given.topics if topic not in WITHOUT_IMAGES]
    one: tuple[list[Any], str] = [], ""
    test = one
    if set(topics) & set(OF_TEST_SET) or (topics and not given.picture):
        data = dataset.of(networks.data_of(given.network, given.trust_page), commandline.log)
        if data.shape != shape:
            raise UserError(
                f"{given.network} takes images of {shape}, and those of {data.name} are "
                f"{data.shape}. Bring back the data that it was trained on"
            )
        test = [data.test.images], f"the test set of {data.name}"
        at = int((data.test.labels == SHOWN).argmax())  # the first image where there is none
        label = data.test.labels[at]
        words = f"a {label}" if shape == SHAPE else f"class {label}"
        one = [data.test.images[at]], f"{words}, image {at} of {test[1]}"
    if given.picture:
        from lenet_jax.recognition import reader

        digits = reader.recognize(given.picture, given.network).digits
        if len(digits) > 1:
            commandline.log(f"{given.picture}: {len(digits)} digits, the first is drawn")
        one = [digits[0].image], f"the first digit of {Path(given.picture).name}"
    of = {topic: test if topic in OF_TEST_SET else one for topic in topics}
    return of | {"kernels": ([shape], ""), "table": ([], "")}


def counted(frames: Iterable[Any], number: int, status: Any) -> Iterator[Any]:
    """The frames as they come, each told."""
    for at, frame in enumerate(frames, 1):
        status.update(f"drawing training: frame {at} of {number}")
        yield frame


if __name__ == "__main__":
    commandline.run(main)
