"""How images reach the devices: all at once, or what is needed next where they have no room."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lenet_jax.data.dataset import Images
from lenet_jax.training import replicas, scoring

RESIDENT = 0.25  # the share of a device's memory that a set of images may take for the whole run
SENT = 2**26  # bytes of images that are sent at a time where a set has no room

Examples = tuple[jax.Array, jax.Array]


class Feed(Protocol):
    """Images and labels as `step.run_steps` and `step.begin_epoch` take them."""

    def of_steps(
        self, order: jax.Array | np.ndarray, first: int, last: int
    ) -> tuple[Examples, int]:
        """For the updates first to last - 1 of an order [seeds, steps, batch_size], or fewer.

        With the update up to which they are enough.
        """
        ...

    def of_samples(self, samples: jax.Array | np.ndarray) -> Examples:
        """For samples of each network's own, int32 [seeds, samples]."""
        ...


def feed(on: Mesh, train: Images, batch_size: int, seeds: int) -> Feed:
    """The training examples for so many networks, resident where the devices have room."""
    if _has_room(on, train):
        return Resident(on, train)
    return Streamed(on, train, _fitting(batch_size * seeds, train))


def counted(on: Mesh, images: Images) -> Iterable[Examples]:
    """Images as `scoring.count_right` takes them, in pieces; resident where there is room."""
    if _has_room(on, images):
        return [scoring.blocks(images.images, images.labels, on)]
    return Pieces(on, images, _fitting(1, images))


def _has_room(on: Mesh, images: Images) -> bool:
    copies = on.size if replicas.on_cores(on) else 1  # in one memory
    return images.images.nbytes * copies <= RESIDENT * replicas.memory_of(on)


def _fitting(number: int, images: Images) -> int:
    """How many batches of so many images are sent at a time."""
    return max(1, SENT // (number * images.images[0].nbytes))


class Resident:
    """All examples lie on every device."""

    def __init__(self, on: Mesh, train: Images) -> None:
        self._examples = replicas.replicated(on, (train.images, train.labels))

    def of_steps(
        self, order: jax.Array | np.ndarray, first: int, last: int
    ) -> tuple[Examples, int]:
        return self._examples, last

    def of_samples(self, samples: jax.Array | np.ndarray) -> Examples:
        return self._examples


class Streamed:
    """The examples stay where they are, in memory or in a file; those of some steps are sent."""

    def __init__(self, on: Mesh, train: Images, steps: int) -> None:
        self._on, self._train, self._steps = on, train, steps

    def of_steps(
        self, order: jax.Array | np.ndarray, first: int, last: int
    ) -> tuple[Examples, int]:
        samples = np.asarray(order)[:, first : first + self._steps]
        missing = self._steps - samples.shape[1]  # else a shorter chunk would be compiled anew
        samples = np.pad(samples, ((0, 0), (0, missing), (0, 0)))
        return self._sent(samples, replicas.BATCHES), min(last, first + self._steps)

    def of_samples(self, samples: jax.Array | np.ndarray) -> Examples:
        return self._sent(np.asarray(samples), replicas.STACKED)

    def _sent(self, samples: np.ndarray, layout: P) -> Examples:
        places = samples % len(self._train)
        if len(places) % self._on.shape["seeds"]:  # then every device has those of all networks
            layout = P(None, *layout[1:])

        def one(array: np.ndarray) -> jax.Array:
            def part(at: tuple[slice, ...]) -> np.ndarray:
                return array[places[at[: places.ndim]]]

            return replicas.laid_out(self._on, layout, places.shape + array.shape[1:], part)

        return one(self._train.images), one(self._train.labels)


class Pieces:
    """Images in pieces of so many, sent each time that they are gone through."""

    def __init__(self, on: Mesh, images: Images, number: int) -> None:
        self._on, self._images, self._number = on, images, number

    def __iter__(self) -> Iterator[Examples]:
        for at in range(0, len(self._images), self._number):
            piece = slice(at, at + self._number)
            images, labels = self._images.images[piece], self._images.labels[piece]
            yield scoring.blocks(images, labels, self._on)
