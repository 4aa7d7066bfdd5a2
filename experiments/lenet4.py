"""LeNet-4 (section III-C.8), whose description and numbers cannot both hold (PAPER.md).

    python -m lenet_jax.train --config experiments/lenet4.py       # as described
    python -m lenet_jax.train --config experiments/lenet4.py:17k   # as counted

                                       test error
    paper                              1.1 %             (Fig. 9)
    as described, five seeds           1.09 +- 0.14 %    (MNIST, the last epoch)
    as counted, five seeds             1.26 +- 0.10 %

50,698 parameters, or 16,998. Trained as experiments/classic.py is; the outputs are activated sums,
so the loss is their squared distance from +1 for the right class and -1 for the others.
"""

from lenet_jax.experiment import Experiment, Paper, Reproduced, SquaredError, variant
from lenet_jax.models.lenet import LeNet4

REPRODUCED = Reproduced("family", seeds=5, kind="LeNet")
PAPER = Paper(test_error=1.1, train_error=None, source="section III-C.8 and Fig. 9")
VARIANTS = {
    "17k": {"model": LeNet4(reading="17k"), "paper": PAPER, "reproduced": REPRODUCED},
}


def get_config(name: str = "") -> Experiment:
    base = Experiment(
        name="lenet4",
        model=LeNet4(),
        loss=SquaredError(),
        paper=PAPER,
        reproduced=REPRODUCED,
    )
    return variant(base, VARIANTS, name)
