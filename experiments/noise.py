"""LeNet-5 trained with salt-and-pepper noise (section III-E), from experiments/classic.py.

    python -m lenet_jax.train --config experiments/noise.py

The network of the paper's Fig. 13, which shows what it still reads; no error rate is reported
there. A tenth of the pixels is inverted, others in every epoch.

    test error                   clean              a tenth inverted    a fifth
    this, five seeds             1.46 +- 0.34 %     1.99 %              13.0 %
    classic.py, ten seeds        0.98 +- 0.06 %     32.0 %              71.6 %

The mean, and its 95 % interval, after the last epoch; 122 to 191 of 10,000 clean digits
misclassified (results/noise.json, classic.json). Measured on MNIST (TFDS mnist/3.0.1), jax 0.10.2,
Python 3.11, two cores of an Intel Xeon at 2.5 GHz: `python -m lenet_jax.reproduce --only noise`;
results/fig13.png has the curves.
"""

import dataclasses

import classic

from lenet_jax.experiment import Distortion, Experiment, Reproduced


def get_config() -> Experiment:
    return dataclasses.replace(
        classic.get_config(),
        name="noise",
        distortion=Distortion(inverted=0.1),
        paper=None,
        reproduced=Reproduced("paper", seeds=5, kind="LeNet"),
    )
