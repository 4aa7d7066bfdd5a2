"""The network of Zeiler and Fergus (2014).

    python -m lenet_jax.train --config experiments/zfnet.py             # ImageNet
    python -m lenet_jax.train --config experiments/zfnet.py:shapes

Published, on the validation set of ImageNet 2012: 38.4 % top-1, 16.5 % top-5, one network, ten
views averaged. Not measured here: a picture has 1.7 times AlexNet's connections, whose 90 epochs
would take two cores two months (alexnet.py). The command above is exact, where TFDS has prepared
`imagenet2012` or --data.manual-dir holds its folders train and val.

The recipe is the paper's: batches of 128, momentum 0.9, a rate of 0.01 that is lowered by hand in
70 epochs (when is not said; here after 30 and 50), weights that begin with a deviation of 0.01 and
biases of 0, random crops and mirror images of 256x256 (the paper takes ten fixed views), and maps
whose weights exceed a root mean square of 0.1 put back to it. It names no weight decay.

imagenette   ten classes of ImageNet, 9,469 pictures
shapes       ten kinds of coloured shapes that the package draws, 256x256: `start` scaled, Adam;
             here 25 of 2,000 test pictures wrong after three epochs
wide         the one of the tutorials, 512, 1024 and 512 maps in the last three convolutions
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
from lenet_jax.models.zfnet import ZFNet

VARIANTS = {
    "imagenette": {"data": Data("imagenette")},
    "shapes": {
        "model": ZFNet(start="scaled"),
        "data": Data("shapes", size=256),
        "optimizer": Adam(3e-4, warmup=0.05),
        "batch_size": 32,
        "epochs": 3,
    },
    "wide": {"model": ZFNet(classes=1000, maps=(96, 256, 512, 1024, 512))},
}


def get_config(name: str = "") -> Experiment:
    base = Experiment(
        name="zfnet",
        model=ZFNet(classes=1000),
        loss=CrossEntropy(),
        optimizer=SGD(0.01, momentum=0.9, falls=(30, 50), largest_rms=0.1),
        data=Data("imagenet"),
        distortion=Distortion(crops=True, flips=True),
        batch_size=128,
        order="reshuffled",
        epochs=70,
        paper=Paper(38.4, None, "Zeiler and Fergus 2014"),
    )
    return variant(base, VARIANTS, name)
