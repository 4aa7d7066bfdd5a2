"""Network in Network (Lin, Chen and Yan 2014), from the authors' own files.

    python -m lenet_jax.train --config experiments/nin.py             # MNIST
    python -m lenet_jax.train --config experiments/nin.py:cifar100

Published: MNIST 0.47 %, CIFAR-10 10.41 %, CIFAR-100 35.68 %, with dropout and without augmentation.
Measured here: MNIST 0.48 %, one seed (results/nin.json); CIFAR not yet.

The recipe is that of NIN/mnist_params in github.com/mavenlin/cuda-convnet: rates of 1 for weights
and 2 for biases, a tenth of these in the last layer, times a cost of weight 0.1; momentum 0.9;
batches of 128. The weight of the cost is that of its gradient and not of the decay, so that their
decay of 1e-5 is 1e-4 of our rate of 0.1. That of CIFAR-10 is the same. CIFAR-100 has rates of 0.01
and 0.02 in all layers, a cost of weight 2 and a decay of 1e-3: a rate of 0.02 here and a decay of
5e-4. What their files leave open is ours: the schedule (for
CIFAR they write 200 epochs, then a tenth of the rate for 30, and again; the shares are kept here)
and a new order in each epoch. Images are bytes less their mean, as their MnistDataProvider hands
them on: weights drawn from N(0, 0.05) make nine layers so faint that this recipe had not begun to
learn after 200 updates on pixels from 0 to 1, nor after an epoch on pixels of mean 0 and deviation
1. On CIFAR the authors normalise contrast and whiten before; here that is left out.

cifar10, cifar100    the form for 32x32x3 with windows of 3x3 and no border: 30x30 after the first
"""

from lenet_jax.experiment import SGD, CrossEntropy, Data, Experiment, Paper, Reproduced, variant
from lenet_jax.models.nin import NIN

COLOURED = NIN(size=3, padding=0, maps=(192, 192, 192), first=(160, 192, 192), second=(96, 192))
PAPER = "Network in Network, 2014"
VARIANTS = {
    f"cifar{classes}": {
        "model": COLOURED,
        "data": Data(f"cifar{classes}"),
        "epochs": 260,
        "paper": Paper(error, None, PAPER),
    }
    for classes, error in ((10, 10.41), (100, 35.68))
}
VARIANTS["cifar100"]["optimizer"] = SGD(
    0.02, momentum=0.9, decay=5e-4, bias_rate=2.0, falls=(200, 230)
)


def falls(epochs: int) -> tuple[int, ...]:
    """200, 30 and 30 of 260 epochs."""
    return round(epochs * 200 / 260), round(epochs * 230 / 260)


def get_config(name: str = "") -> Experiment:
    epochs = 260 if name else 22
    base = Experiment(
        name="nin",
        model=NIN(),
        loss=CrossEntropy(),
        optimizer=SGD(
            0.1,
            momentum=0.9,
            decay=1e-4,
            bias_rate=2.0,
            output_rate=0.1,
            falls=falls(epochs),
        ),
        batch_size=128,
        order="reshuffled",
        epochs=epochs,
        paper=Paper(0.47, None, PAPER),
        reproduced=Reproduced("family", seeds=1, kind="descendants"),
    )
    return variant(base, VARIANTS, name)
