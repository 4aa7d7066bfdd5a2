"""An experiment as JSON, and back."""

import dataclasses
from pathlib import Path
from typing import Any

from lenet_jax.experiment.architecture import Architecture
from lenet_jax.experiment.baseline import Baseline
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.distortion import Distortion
from lenet_jax.experiment.experiment import Experiment, Paper
from lenet_jax.experiment.loss import MAP, ML, CrossEntropy, SquaredError
from lenet_jax.experiment.optimizer import SDLM, SGD, Adam, Muon


def as_json(experiment: Experiment | Baseline) -> dict[str, Any]:
    """The resolved configuration in JSON's types, the class of each part under "is"."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            parts = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"is": type(value).__name__, **parts}
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(experiment)


def from_json(tree: Any) -> Any:
    """The experiment that `as_json` wrote down; paths stay strings.

    Raises KeyError or TypeError for parts and fields that this version does not have.
    """
    if isinstance(tree, list):
        return tuple(from_json(value) for value in tree)
    if not isinstance(tree, dict):
        return tree
    parts = {name: from_json(value) for name, value in tree.items() if name != "is"}
    return PARTS[tree["is"]](**parts)


PARTS: dict[str, Any] = {
    part.__name__: part
    for part in (
        *(Experiment, ML, MAP, CrossEntropy, SquaredError, SDLM, Adam, Muon, SGD),
        *(Baseline, Data, Distortion, Paper, *Architecture.__subclasses__()),
    )
}
