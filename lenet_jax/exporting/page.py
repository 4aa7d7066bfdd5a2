"""A page that needs no server: serving's, with the network inside as JavaScript (network.js).

One HTML file, which opens from a disk or from any host of files and loads nothing. C5 and F6,
nearly all weights, are whole numbers of 16 bits, with a scale for each unit: as short as half
precision and several times closer. All else is float32.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.exporting import torch
from lenet_jax.models.lenet import LeNet5
from lenet_jax.recognition.answers import limits
from lenet_jax.recognition.predictor import predictor

PAGE = Path(__file__).parents[1] / "serving" / "page.html"
NETWORK = Path(__file__).parent / "network.js"
PLACE = re.compile(r"<!-- reader:.*<!-- /reader -->", re.DOTALL)  # of what reads a drawing
HEAD = '<meta charset="utf-8">\n'
WRITTEN = re.compile(r"const reader = localReader\((.*)\);")
WANTED = {"head": "rbf", "pooling": "subsampling", "activation": "scaled-tanh", "classes": 10}
SHORT = ("c5.weight", "f6.weight")
SCALE = 2**15 - 1


def refusal(module: nn.Module) -> str | None:
    """Why a network cannot be written, or None."""
    if isinstance(module, LeNet5):
        others = [name for name, value in WANTED.items() if getattr(module, name) != value]
        if not others:
            return None
        given = f"one with {', '.join(f'{name} {getattr(module, name)}' for name in others)}"
    else:
        given = f"a {type(module).__name__}"
    return (
        f"the page format is for a LeNet5 with {', '.join(f'{n} {v}' for n, v in WANTED.items())}, "
        f"this is {given}. Give other formats: --format onnx stablehlo safetensors"
    )


def write(path: Path, module: LeNet5, params: Any, card: dict[str, Any]) -> None:
    """Writes the page; it calls the network by the file's name."""
    found = limits(card)
    state = torch.state_dict(module, params, SHAPE)
    arrays = {name: _packed(array, name in SHORT) for name, array in state.items()}
    network = {"name": path.stem, **found._asdict(), "arrays": arrays}
    written = json.dumps(network).replace("<", "\\u003c")  # or a name might end the script
    code = NETWORK.read_text(encoding="utf-8")
    reader = f'<script>\n"use strict";\n{code}const reader = localReader({written});\n</script>'
    page, places = PLACE.subn(lambda _: reader, PAGE.read_text(encoding="utf-8"))
    head = f'{HEAD}<meta http-equiv="Content-Security-Policy" content="{policy(page)}">\n'
    assert places == page.count(HEAD) == 1
    path.write_text(page.replace(HEAD, head), encoding="utf-8")


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The scores of the weights in a file, for uint8 images [n, 28, 28], computed by jax.

    Raises UserError for a file that is damaged.
    """
    module = LeNet5(table="full", adaptive=True)  # missing connections and codes are the file's
    return predictor(module, torch.parameters(load(path)))


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a page, by the names of the torch format. Raises UserError as `read` does."""
    page = path.read_text(encoding="utf-8", errors="replace")
    written = WRITTEN.search(page)
    if written is None or policy(page) not in page:
        raise UserError(f"{path} is no page of ours, or damaged: export the network again")
    arrays = json.loads(written[1])["arrays"]
    return {name: _unpacked(**array) for name, array in arrays.items()}


def policy(page: str) -> str:
    """What a browser may do with a page: run its scripts and styles, known by their SHA-256."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _packed(array: np.ndarray, short: bool) -> dict[str, Any]:
    if not short:
        return {"shape": array.shape, "values": _base64(array.astype("<f4"))}
    rows = array.reshape(len(array), -1)
    scales = (np.abs(rows).max(axis=1, keepdims=True) / SCALE).astype("<f4")
    whole = np.round(rows / np.where(scales, scales, 1)).astype("<i2")
    return {"shape": array.shape, "values": _base64(whole), "scales": _base64(scales)}


def _unpacked(shape: list[int], values: str, scales: str | None = None) -> np.ndarray:
    if scales is None:
        return np.frombuffer(base64.b64decode(values), "<f4").reshape(shape)
    whole = np.frombuffer(base64.b64decode(values), "<i2").astype(np.float32)
    scale = np.frombuffer(base64.b64decode(scales), "<f4")
    return (whole.reshape(len(scale), -1) * scale[:, None]).reshape(shape)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
