"""AlexNet (Krizhevsky, Sutskever and Hinton 2012).

    python -m lenet_jax.train --config experiments/alexnet.py             # ImageNet
    python -m lenet_jax.train --config experiments/alexnet.py:shapes

Published, on the validation set of ImageNet 2012: 40.7 % top-1, 18.2 % top-5, one network, ten
views averaged. Not measured here: at the speed of results/alexnet-speed.json, 19 pictures a second,
90 epochs would take two cores two months. The command above is exact, where TFDS has prepared
`imagenet2012` or --data.manual-dir holds its folders train and val.

The recipe is the paper's: batches of 128, momentum 0.9, decay 5e-4, a rate of 0.01 that falls
tenfold three times in 90 epochs (where is not said; the log in the released file falls after 25, 51
and 79 of 91), random crops and mirror images of 256x256, noise along the principal components of
colour. The rate of a bias is that of the weights, as the text says; the file has another.

imagenette   ten classes of ImageNet, 9,469 pictures
shapes       ten kinds of coloured shapes that the package draws, 256x256: `start` scaled, Adam;
             here 2 of 2,000 test pictures wrong after six epochs
files        ImageNet in the other reading of the network: the configuration files of 2012

Pictures of 28 or 32 pixels do not fill a window of 227: see nin.py for MNIST and CIFAR.
"""

from lenet_jax.experiment import (
    SGD,
    Adam,
    CrossEntropy,
    Data,
    Distortion,
    Experiment,
    Paper,
    variant,
)
from lenet_jax.models.alexnet import AlexNet

VARIANTS = {
    "imagenette": {"data": Data("imagenette")},
    "shapes": {
        "model": AlexNet(start="scaled"),
        "data": Data("shapes", size=256),
        "optimizer": Adam(3e-4, warmup=0.05),
        "batch_size": 32,
        "epochs": 6,
    },
    "files": {"model": AlexNet(classes=1000, reading="files")},
}


def get_config(name: str = "") -> Experiment:
    base = Experiment(
        name="alexnet",
        model=AlexNet(classes=1000),
        loss=CrossEntropy(),
        optimizer=SGD(0.01, momentum=0.9, decay=5e-4, falls=(25, 51, 79)),
        data=Data("imagenet"),
        distortion=Distortion(crops=True, flips=True, colour=0.1),
        batch_size=128,
        order="reshuffled",
        epochs=90,
        paper=Paper(40.7, None, "Krizhevsky et al. 2012"),
    )
    return variant(base, VARIANTS, name)
