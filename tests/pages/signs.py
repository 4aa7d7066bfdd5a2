"""Signs of twelve kinds, read by a residual network that Lion trains."""

import flax.linen as nn
import numpy as np
import optax

from lenet_jax.experiment import Arrays, CrossEntropy, Experiment


class Residual(nn.Module):
    channels: int = 8

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(self.channels, (5, 5), strides=2)(images))
        y = nn.relu(nn.GroupNorm(4)(nn.Conv(self.channels, (3, 3))(x)))
        x = nn.max_pool(nn.relu(x + nn.Conv(self.channels, (3, 3))(y)), (2, 2), strides=(2, 2))
        return nn.Dense(12)(x.reshape(x.shape[0], -1))


def signs(number, seed):
    """A bright square in one of twelve places, on noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(12, size=number)
    images = rng.integers(0, 60, size=(number, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 9 * (label // 4), 7 * (label % 4)
        image[top : top + 8, left : left + 6] = 255
    return images, labels


def get_config():
    return Experiment(
        "signs",
        Residual(),
        loss=CrossEntropy(),
        optimizer=optax.lion(1e-3),
        data=Arrays("signs", classes=12, train=signs(600, 0), test=signs(200, 1)),
        epochs=8,
        batch_size=20,
    )
