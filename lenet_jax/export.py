"""Exports a trained network for other programs.

python -m lenet_jax.export                                  every format, into exported/
python -m lenet_jax.export --format onnx torch --out there
python -m lenet_jax.export --network runs/classic           a run's newest checkpoint
python -m lenet_jax.export --format page                    a page that needs no server

onnx and stablehlo take uint8 images [n, 28, 28], ink bright, and return scores [n, 10], higher is
better; safetensors holds the parameters as flax names them, torch as a PyTorch state dict; page is
one HTML file that reads what is drawn on it, by a LeNet5 with RBF units. Every file is read again
and compared before it gets its name.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from lenet_jax import commandline, pretrained
from lenet_jax.exporting import formats
from lenet_jax.recognition import networks

IMAGES = 1000  # embedded digits, on which each file is compared; of larger images fewer


def main(arguments: Sequence[str]) -> int:
    """Writes a file for each format and prints how close it is; returns the exit code."""
    given = parse(arguments)
    run = networks.check(given.network, trust_page=given.trust_page)
    networks.require_single(given.network, run)
    formats.check(given.format or list(formats.FORMATS))
    commandline.out_folder(given.out)

    # Nothing above this line imports jax: every complaint so far came at once.
    commandline.set_up_jax()
    import numpy as np

    from lenet_jax.data import digits
    from lenet_jax.recognition.predictor import predictor

    trained = networks.load(given.network, commandline.log, given.trust_page)
    images = digits.load()["train_images"][:IMAGES]
    if trained.shape != images.shape[1:]:  # of another size there is noise
        number = min(IMAGES, max(2, images.size // math.prod(trained.shape)))
        images = np.random.default_rng(0).integers(0, 256, (number, *trained.shape), np.uint8)
    commandline.log(f"{given.network}: each file will be compared on {len(images):,} images")
    scores = predictor(trained.module, trained.params, trained.shape)(images)
    name = given.network if given.network in pretrained.names() else trained.card["experiment"]
    suiting = [f for f in formats.FORMATS if formats.refusal(f, trained) is None]
    for each in dict.fromkeys(given.format or suiting):
        path = given.out / f"{name}{formats.FORMATS[each].suffix}"
        difference = formats.export(each, path, trained, images, scores)
        size = path.stat().st_size
        print(
            f"{path}: {size:,} bytes, {formats.FORMATS[each].compared} differ from the network's "
            f"by at most {difference:.1g} of the largest, the labels are the same",
            flush=True,
        )
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = commandline.parser("export", __doc__)
    parser.add_argument("--network", **commandline.NETWORK)
    parser.add_argument("--trust-page", **commandline.TRUST_PAGE)
    parser.add_argument(
        "--format",
        nargs="+",
        choices=formats.FORMATS,
        default=[],
        metavar="FORMAT",
        help=f"one or more of {', '.join(formats.FORMATS)} (default: all that suit the network)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("exported"),
        metavar="FOLDER",
        help="a folder (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    commandline.run(main)
