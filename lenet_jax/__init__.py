"""The reference LeNet-5: the 1998 network exactly as published, in JAX and Flax.

What stands in `__all__` is imported when it is asked for: with some of it come jax and flax, which
take a second or two.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

__all__ = [
    "Adam",
    "Arrays",
    "CrossEntropy",
    "Data",
    "Distortion",
    "Experiment",
    "LeNet5",
    "MAP",
    "ML",
    "Model",
    "Muon",
    "Run",
    "SDLM",
    "SGD",
    "SquaredError",
    "UserError",
    "load",
    "read",
    "recognize",
    "train",
]

if TYPE_CHECKING:
    from lenet_jax.api import Model, Run, load, read, recognize, train
    from lenet_jax.errors import UserError
    from lenet_jax.experiment import (
        MAP,
        ML,
        SDLM,
        SGD,
        Adam,
        Arrays,
        CrossEntropy,
        Data,
        Distortion,
        Experiment,
        Muon,
        SquaredError,
    )
    from lenet_jax.models.lenet import LeNet5

_ELSEWHERE = {
    "UserError": "errors",
    "LeNet5": "models.lenet",
    **dict.fromkeys(("train", "load", "read", "recognize", "Run", "Model"), "api"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"lenet_jax.{_ELSEWHERE.get(name, 'experiment')}")
    return getattr(module, name)
