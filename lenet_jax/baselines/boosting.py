"""Boosting by filtering (Schapire 1990; Drucker, Schapire and Simard 1993): section III-C.9.

The first network is trained as its experiment says. The second gets new distorted examples, half
of which the first reads rightly and half wrongly; the third gets such on which the two disagree.
Their outputs are added. Of an example of which the first is sure the others are not asked.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.data import distort, kept
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.data.pictures import Pictures
from lenet_jax.errors import UserError
from lenet_jax.experiment import Distortion, Experiment, serialization
from lenet_jax.measurement import records
from lenet_jax.recognition import answers
from lenet_jax.training import loop, replicas, scoring
from lenet_jax.training.folder import RunFolder

MOST_ROUNDS = 200  # through the training set, new distortions each time, in search of examples


@dataclass(frozen=True)
class Boosted:
    """Three networks' test scores [3, n, classes], the errors of their sum on the training set, the
    margin of the first below which the others are asked, how many examples were drawn in search
    of those of the second and of the third, and the seconds of training, those of the search not
    counted (`records.seconds`).
    """

    scores: np.ndarray
    train_errors: int
    unsure_below: float
    drawn: tuple[int, int]
    seconds: float

    def errors(self, labels: np.ndarray) -> list[int]:
        """Of each network alone, and of the sum."""
        each = [*self.scores, self.scores.sum(0)]
        return [int((scores.argmax(1) != labels).sum()) for scores in each]

    def calls(self) -> float:
        """How many networks a test example needs on average."""
        return 1 + 2 * float((answers.margins(self.scores[0]) < self.unsure_below).mean())

    def predictions(self) -> np.ndarray:
        """Scores [n, classes]: the first network's where it is sure, else the sum of the three.

        The first one's count threefold, so that margins can be compared.
        """
        unsure = answers.margins(self.scores[0]) < self.unsure_below
        return np.where(unsure[:, None], self.scores.sum(0), 3 * self.scores[0])


def train(
    experiment: Experiment, data: Dataset, workdir: Path, log, stopping=lambda: False
) -> Boosted:
    """Three networks of one seed, each a run of its own in the folder.

    Raises as `loop.train` does, for a folder of another experiment or other data too.
    """
    resolved = serialization.as_json(experiment) | {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
    }
    with RunFolder(workdir, resolved) as folder:
        file = folder.path / "scores.npz"
        boosted = found(file, log)
        if boosted is None:
            boosted = train_three(experiment, data, folder.path, log, stopping)
            kept.write(file, log, sha256=np.array(_sum(boosted)), **dataclasses.asdict(boosted))
        return boosted


def found(file: Path, log: Callable[[str], None]) -> Boosted | None:
    """What was kept of three networks, if it is there and whole."""
    try:
        with np.load(file) as there:
            boosted = Boosted(
                there["scores"],
                int(there["train_errors"]),
                float(there["unsure_below"]),
                tuple(there["drawn"].tolist()),
                float(there["seconds"]),
            )
            if str(there["sha256"]) == _sum(boosted):
                return boosted
        log(f"{file} does not match its SHA-256: computing the scores again")
    except FileNotFoundError:
        pass
    except kept.DAMAGED as error:
        log(f"{file} is damaged ({error}): computing the scores again")
    return None


def _sum(boosted: Boosted) -> str:
    sum256 = hashlib.sha256()
    for value in dataclasses.asdict(boosted).values():
        sum256.update(np.ascontiguousarray(value).tobytes())
    return sum256.hexdigest()


def train_three(experiment: Experiment, data: Dataset, folder: Path, log, stopping) -> Boosted:
    """The same, without a look at what was found before."""
    stream = Stream(experiment, data)
    size = len(data.train)
    first = loop.train(experiment, data, folder / "1", log, stopping)

    log(f"{experiment.name}: examples for the second network, half of them misread by the first")
    second_set, drawn_2 = stream.half_wrong(first, size)
    then = dataclasses.replace(experiment, distortion=Distortion())
    second = loop.train(
        then, dataclasses.replace(data, train=second_set), folder / "2", log, stopping
    )

    log(f"{experiment.name}: examples for the third network, on which the first two disagree")
    third_set, drawn_3 = stream.disputed(first, second, size)
    third = loop.train(
        then, dataclasses.replace(data, train=third_set), folder / "3", log, stopping
    )

    networks = first, second, third
    fresh = stream.batch(stream.rounds)
    added = np.stack([scores(run, fresh.images) for run in networks])
    trained = np.stack([scores(run, data.train.images) for run in networks]).sum(0)
    return Boosted(
        scores=np.stack([scores(run, data.test.images) for run in networks]),
        train_errors=int((trained.argmax(1) != data.train.labels).sum()),
        unsure_below=early_stop(added, fresh.labels),
        drawn=(drawn_2, drawn_3),
        seconds=sum(map(records.seconds, networks)),
    )


def early_stop(scores: np.ndarray, labels: np.ndarray) -> float:
    """The smallest margin of the first network above which the other two need not be asked.

    scores [3, n, classes] of training examples in distortions that none of them was trained on:
    with it no more of them are misclassified than by always adding the three.
    """
    sure = answers.margins(scores[0])
    order = np.argsort(sure)
    alone = (scores[0].argmax(1) != labels)[order]
    added = (scores.sum(0).argmax(1) != labels)[order]
    asked = np.r_[0, np.cumsum(added)]  # errors among the k of which the first is least sure
    spared = np.r_[np.cumsum(alone[::-1])[::-1], 0]
    enough = int(np.flatnonzero(asked + spared <= added.sum())[0])
    return float(np.r_[sure[order], np.inf][enough])


def scores(run: loop.Result, images: np.ndarray | Pictures) -> np.ndarray:
    """float32 [n, classes] of a run's only network, on all devices."""
    mesh = replicas.mesh(jax.devices())
    params = replicas.replicated(mesh, jax.tree.map(np.asarray, run.params))
    blocks, _ = scoring.blocks(np.asarray(images), np.zeros(len(images), np.int32), mesh)
    return np.asarray(scoring.scores_of(run.recipe.model, mesh, params, blocks))[0, : len(images)]


class Stream:
    """New distortions of the training examples without end, a round of all of them at a time."""

    def __init__(self, experiment: Experiment, data: Dataset) -> None:
        self.ranges = dataclasses.replace(experiment.distortion, versions=None)
        self.key = jax.random.fold_in(jax.random.key(experiment.seed), 4)
        self.examples = data.train
        self.rounds = 0

    def batch(self, number: int) -> Images:
        """Round `number`: every example once, in a new order, with a new distortion."""
        for_order, for_maps = jax.random.split(jax.random.fold_in(self.key, number))
        order = np.asarray(jax.random.permutation(for_order, len(self.examples)))
        images = self.examples.images[order]
        return Images(
            np.asarray(_distorted(self.ranges, for_maps, images)), self.examples.labels[order]
        )

    def half_wrong(self, first: loop.Result, size: int) -> tuple[Images, int]:
        """So many examples, half of them misread, in turn; and how many were drawn for them."""
        found: dict[bool, list[Images]] = {True: [], False: []}
        drawn = self.rounds
        while min(sum(map(len, part)) for part in found.values()) < size // 2:
            batch = self._next(drawn)
            wrong = scores(first, batch.images).argmax(1) != batch.labels
            for kind, part in found.items():
                if sum(map(len, part)) < size // 2:
                    part.append(_chosen(batch, wrong == kind))
        halves = [_joined(part, size // 2) for part in found.values()]
        mixed = np.arange(2 * (size // 2)).reshape(2, -1).T.ravel()  # one of each in turn
        return _chosen(_joined(halves, len(mixed)), mixed), self._drawn(drawn)

    def disputed(self, first: loop.Result, second: loop.Result, size: int) -> tuple[Images, int]:
        """So many examples on which two networks disagree; and how many were drawn for them."""
        found: list[Images] = []
        drawn = self.rounds
        while sum(map(len, found)) < size:
            batch = self._next(drawn)
            predictions = [scores(run, batch.images).argmax(1) for run in (first, second)]
            found.append(_chosen(batch, predictions[0] != predictions[1]))
        return _joined(found, size), self._drawn(drawn)

    def _next(self, since: int) -> Images:
        if self.rounds - since == MOST_ROUNDS:
            raise UserError(
                f"{MOST_ROUNDS} rounds of distorted examples hold too few that are misread: the "
                "network is too good for these distortions. Give stronger ones, or fewer examples "
                "(--data.limit)"
            )
        self.rounds += 1
        return self.batch(self.rounds - 1)

    def _drawn(self, since: int) -> int:
        return (self.rounds - since) * len(self.examples)


@partial(jax.jit, static_argnums=0)
def _distorted(ranges: Distortion, key: jax.Array, images: jax.Array) -> jax.Array:
    keys = jax.random.split(key, len(images))
    changed = jax.lax.map(
        lambda pair: distort.distort(ranges, pair[0][None], pair[1][None])[0],
        (keys, images),
        batch_size=100,
    )
    return jnp.round(changed).astype(jnp.uint8)


def _chosen(examples: Images, which: np.ndarray) -> Images:
    return Images(examples.images[which], examples.labels[which])


def _joined(parts: list[Images], size: int) -> Images:
    return Images(
        np.concatenate([part.images for part in parts])[:size],
        np.concatenate([part.labels for part in parts])[:size],
    )
