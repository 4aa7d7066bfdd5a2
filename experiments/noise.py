"""LeNet-5 trained with salt-and-pepper noise (section III-E), from experiments/classic.py.

    python -m lenet_jax.train --config experiments/noise.py

The network of the paper's Fig. 13, which shows what it still reads; no error rate is reported
there. A tenth of the pixels is inverted, others in every pass.
"""

import dataclasses

import classic

from lenet_jax.training.config import Distortion, Experiment


def get_config() -> Experiment:
    return dataclasses.replace(
        classic.get_config(), name="noise", distortion=Distortion(inverted=0.1), paper=None
    )
