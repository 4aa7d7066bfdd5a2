"""What is asked for, as data: an experiment, its parts, and the pages that hold them.

Nothing here imports jax.
"""

from lenet_jax.experiment.arrays import Arrays
from lenet_jax.experiment.baseline import Baseline
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.distortion import Distortion
from lenet_jax.experiment.distributed import Distributed
from lenet_jax.experiment.experiment import Experiment
from lenet_jax.experiment.loss import MAP, ML, CrossEntropy, Discriminative, Loss, SquaredError
from lenet_jax.experiment.optimizer import SDLM, SGD, Adam, Muon, Optimizer
from lenet_jax.experiment.pages import variant
from lenet_jax.experiment.reproduced import Paper, Reproduced
from lenet_jax.experiment.strings import Strings

__all__ = [
    "MAP",
    "ML",
    "SDLM",
    "SGD",
    "Adam",
    "Arrays",
    "Baseline",
    "CrossEntropy",
    "Data",
    "Discriminative",
    "Distortion",
    "Distributed",
    "Experiment",
    "Loss",
    "Muon",
    "Optimizer",
    "Paper",
    "Reproduced",
    "SquaredError",
    "Strings",
    "variant",
]
