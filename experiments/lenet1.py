"""LeNet-1 (section III-C.7; Le Cun et al., NIPS 2, 1990): 2,578 parameters, digits of 16x16.

    python -m lenet_jax.train --config experiments/lenet1.py

Trained as experiments/classic.py is; the outputs are squashed sums, so the loss is their squared
distance from +1 for the right class and -1 for the others.
"""

from lenet_jax.training.architecture import LeNet1
from lenet_jax.training.config import Experiment, Paper, SquaredError


def get_config() -> Experiment:
    return Experiment(
        name="lenet1",
        model=LeNet1(),
        loss=SquaredError(),
        paper=Paper(test_error=1.7, train_error=None, source="section III-C.7 and Fig. 9"),
    )
