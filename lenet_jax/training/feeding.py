"""How images reach the devices: all at once, or what is needed next where they have no room.

What is sent depends on the order of the epoch and the update alone (`step.order_of_epoch`), so a
run is the same bit for bit either way, and goes on in the middle of an epoch as if it had never
stopped. Each host makes and sends the shares of its own devices (`replicas.laid_out`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import psutil
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lenet_jax.data.dataset import Images
from lenet_jax.data.pictures import Pictures
from lenet_jax.experiment import Strings
from lenet_jax.training import hosts, replicas, scoring

RESIDENT = 0.25  # the share of a device's memory that a set of images may take for the whole run
SENT = 2**26  # bytes of images that are sent at a time where a set has no room
UPDATES = 64  # of all networks together that are asked for at first, and sent at most
AHEAD = 2  # pieces that are made and sent while the devices are at work on the one before

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


def feed(
    on: Mesh, train: Images, batch_size: int, seeds: int, strings: Strings | None = None
) -> Feed:
    """The training examples for so many networks, resident where the devices have room.

    Those of which strings are composed always are: any may be in any string.
    """
    if strings is not None or _has_room(on, train):
        return Resident(on, train)
    return Streamed(on, train, min(_fitting(batch_size * seeds, train), at_first(seeds)))


def at_first(seeds: int) -> int:
    """How many updates a run with so many networks asks for at first, 1 or more."""
    return max(1, UPDATES // seeds)


def counted(on: Mesh, images: Images) -> Iterable[Examples]:
    """Images as `scoring.count_right` takes them, in pieces; resident where there is room."""
    if _has_room(on, images):
        return [scoring.blocks(np.asarray(images.images), images.labels, on)]
    return Pieces(on, images, _fitting(1, images))


def _has_room(on: Mesh, images: Images) -> bool:
    size = images.images.nbytes
    copies = len(on.local_devices) if replicas.on_cores(on) else 1  # in one memory
    if isinstance(images.images, Pictures):  # they are made here
        memory = hosts.gathered(float(psutil.virtual_memory().total)).min()
        if size > RESIDENT * memory:
            return False
    return size * copies <= RESIDENT * replicas.memory_of(on)


def _fitting(number: int, images: Images) -> int:
    """How many batches of so many images are sent at a time."""
    return max(1, SENT * len(images) // (number * images.images.nbytes))


def _ahead(make: Callable[[int], Examples], starts: Sequence[int]) -> Iterator[Examples]:
    """make(each) in order, the next ones made, by a thread, while the last is used."""
    import grain

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    reading = iter(grain.MapDataset.source(starts).map(make).to_iter_dataset(options))
    try:
        yield from reading
    finally:
        reading.close()


class Resident:
    """All examples lie on every device."""

    def __init__(self, on: Mesh, train: Images) -> None:
        self._examples = replicas.replicated(on, (np.asarray(train.images), train.labels))

    def of_steps(
        self, order: jax.Array | np.ndarray, first: int, last: int
    ) -> tuple[Examples, int]:
        return self._examples, last

    def of_samples(self, samples: jax.Array | np.ndarray) -> Examples:
        return self._examples


class Streamed:
    """The examples stay where they are, in memory or in files; those of `steps` updates are sent.

    The pieces that follow are read ahead, for as long as each begins where the last one ended.
    """

    def __init__(self, on: Mesh, train: Images, steps: int) -> None:
        self._on, self._train, self._steps = on, train, steps
        self._order: Any = None
        self._next, self._pieces = 0, iter(())

    def of_steps(
        self, order: jax.Array | np.ndarray, first: int, last: int
    ) -> tuple[Examples, int]:
        if order is not self._order or first != self._next:
            self._order, self._pieces = order, self._from(hosts.whole(order), first)
        self._next = first + self._steps
        return next(self._pieces), min(last, self._next)

    def _from(self, order: np.ndarray, first: int) -> Iterator[Examples]:
        def piece(start: int) -> Examples:
            samples = order[:, start : start + self._steps]
            missing = self._steps - samples.shape[1]  # else a shorter one would be compiled anew
            return self._sent(np.pad(samples, ((0, 0), (0, missing), (0, 0))), replicas.BATCHES)

        return _ahead(piece, range(first, order.shape[1], self._steps))

    def of_samples(self, samples: jax.Array | np.ndarray) -> Examples:
        return self._sent(hosts.whole(samples), replicas.STACKED)

    def _sent(self, samples: np.ndarray, layout: P) -> Examples:
        places = samples % len(self._train)
        if len(places) % self._on.shape["seeds"]:  # then every device has those of all networks
            layout = P(None, *layout[1:])

        def one(array: np.ndarray | Pictures) -> jax.Array:
            def part(at: tuple[slice, ...]) -> np.ndarray:
                return array[places[at[: places.ndim]]]

            return replicas.laid_out(self._on, layout, places.shape + array.shape[1:], part)

        return one(self._train.images), one(self._train.labels)


class Pieces:
    """Images in pieces of so many, sent each time that they are gone through."""

    def __init__(self, on: Mesh, images: Images, number: int) -> None:
        self._on, self._images, self._number = on, images, number

    def __iter__(self) -> Iterator[Examples]:
        return _ahead(self._piece, range(0, len(self._images), self._number))

    def _piece(self, start: int) -> Examples:
        piece = slice(start, start + self._number)
        return scoring.blocks(self._images.images[piece], self._images.labels[piece], self._on)
