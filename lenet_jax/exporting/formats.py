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
    """How a format's files end, and the package of the extra "export" that it needs.

    `tolerance`: by how much scores may differ, as a share of the largest; `compared`: what gives
    the scores that are compared.
    """

    suffix: str
    needs: str | None = None
    tolerance: float = TOLERANCE
    compared: str = "its scores"


FORMATS = {  # each by the name of its module in this room
    "onnx": Format(".onnx", "onnx"),
    "stablehlo": Format(".stablehlo", "flatbuffers"),
    "safetensors": Format(".safetensors"),
    "torch": Format(".torch.safetensors"),
    # Of a few hundred, the largest penalty, this is a few hundredths.
    "page": Format(".html", None, 1e-4, "the scores of its weights, computed by jax,"),
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


def refusal(name: str, network: TrainedNetwork) -> str | None:
    """Why a network cannot be written in a format, or None; what onnx cannot, it says later."""
    module = importlib.import_module(f"lenet_jax.exporting.{name}")
    return module.refusal(network.module) if hasattr(module, "refusal") else None


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
    largest difference, as a share of the largest score. Raises UserError for a network that the
    format does not hold, where the difference is more than the format's tolerance, and where a
    label is another; nothing is then left, and a file that was there before stays.
    """
    if reason := refusal(name, network):
        raise UserError(reason)
    module = importlib.import_module(f"lenet_jax.exporting.{name}")
    with tempfile.TemporaryDirectory(dir=path.parent) as unproven:
        file = Path(unproven) / path.name
        _write(module, file, network)
        # The file of a page's own network has parameters, and not what to do with them.
        given = {"module": network.module} if name == "safetensors" else {}
        found = module.read(file, **given)(images)
        largest, allowed = np.abs(scores).max(), FORMATS[name].tolerance
        difference = float(np.abs(found - scores).max() / largest)
        if not difference <= allowed:  # not a number is a difference too
            raise UserError(
                f"the {name} file gives other scores than the network, by {difference:.1e} of the "
                f"largest; allowed is {allowed:.0e}. Nothing was written. Use another format, "
                "and please report it"
            )
        labels = found.argmax(axis=1)[:, None]
        behind = scores.max(axis=1) - np.take_along_axis(scores, labels, axis=1)[:, 0]
        if others := int((behind > TOLERANCE * largest).sum()):  # less is a tie
            raise UserError(
                f"the {name} file gives {others} of {len(images):,} images another label than the "
                "network. Nothing was written. Use another format, and please report it"
            )
        file.replace(path)
    return difference
