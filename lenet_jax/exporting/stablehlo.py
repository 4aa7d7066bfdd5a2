"""StableHLO through jax.export: a compiled network that needs jax and nothing of this package.

    network = jax.export.deserialize(Path("lenet5-best.stablehlo").read_bytes())
    scores = network.call(images)

Images are uint8 [n, 28, 28], or of the size that the network was trained on, for any n; scores
are float32 [n, classes]. The format has no place for a card and no checksum: a flipped bit loads,
and so does a file without its last few bytes, which are the function's name.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from lenet_jax.errors import UserError
from lenet_jax.exporting.forward import forward, shape_of
from lenet_jax.layers.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")


def write(path: Path, module: Network, params: Any, card: dict[str, Any]) -> None:
    """Writes the network, normalisation inside, for `PLATFORMS`."""
    shape = shape_of(card)
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), *shape), np.uint8)
    exported = export.export(jax.jit(forward(module, params)), platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function in a file. Raises UserError for a file that is damaged."""
    try:
        call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    except Exception as error:  # flatbuffers' and MLIR's own, of many kinds
        raise UserError(f"{path} is no StableHLO of jax.export, or damaged ({error})") from error
    return lambda images: np.asarray(call(images))
