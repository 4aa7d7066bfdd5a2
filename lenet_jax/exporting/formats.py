"""The formats, and what an export is: a file that was read again and gave the network's scores.

Imports no jax, nor what a format needs, before a file is written.
"""

import importlib
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.errors import UserError
from lenet_jax.recognition.networks import TrainedNetwork

TOLERANCE = 1e-5  # of the largest score


@dataclass(frozen=True)
class Format:
    """How a format's files end, and the package of the extra "export" that it needs."""

    suffix: str
    needs: str | None = None


FORMATS = {  # each by the name of its module in this room
    "onnx": Format(".onnx", "onnx"),
    "stablehlo": Format(".stablehlo", "flatbuffers"),
    "safetensors": Format(".safetensors"),
    "torch": Format(".torch.safetensors"),
}


def check(formats: Sequence[str]) -> None:
    """Raises UserError for a format whose package is not installed."""
    for name in formats:
        needs = FORMATS[name].needs
        if needs and importlib.util.find_spec(needs) is None:
            raise UserError(
                f"--format {name} needs the package {needs}: "
                'pip install "lenet_jax[export]", or leave this format out'
            )


def _write(format_: Any, file: Path, network: TrainedNetwork) -> None:
    try:
        format_.write(file, network.module, network.params, network.card)
    except UserError:
        raise
    except TypeError as error:  # of a page's network that asks for the number of images
        raise UserError(
            f"{type(network.module).__name__} cannot be written for any number of images "
            f"({error}). In the network give x.shape[0] in the place of len(x), and no number "
            "for the images"
        ) from error


def export(
    name: str,
    path: Path,
    network: TrainedNetwork,
    images: np.ndarray,
    scores: np.ndarray,
) -> float:
    """Writes a network to a file in the format `name`, and compares.

    `scores` [n, classes] are the network's own for uint8 images [n, *shape]. Returns the
    largest difference, as a share of the largest score. Raises UserError where that is more than
    `TOLERANCE`; nothing is then left, and a file that was there before stays.
    """
    module = importlib.import_module(f"lenet_jax.exporting.{name}")
    with tempfile.TemporaryDirectory(dir=path.parent) as unproven:
        file = Path(unproven) / path.name
        _write(module, file, network)
        # The file of a page's own network has parameters, and not what to do with them.
        given = {"module": network.module} if name == "safetensors" else {}
        found = module.read(file, **given)(images)
        difference = float(np.abs(found - scores).max() / np.abs(scores).max())
        if not difference <= TOLERANCE:  # not a number is a difference too
            raise UserError(
                f"the {name} file gives other scores than the network, by {difference:.1e} of the "
                f"largest; allowed is {TOLERANCE:.0e}. Nothing was written. Use another format, "
                "and please report it"
            )
        file.replace(path)
    return difference
