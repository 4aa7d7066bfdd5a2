"""What a notebook or a program calls: train, load, recognize; importable from `lenet_jax`.

Nothing is printed unless it is asked for, no signal is touched, and it works in a thread and inside
a running event loop.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax import settings
from lenet_jax.errors import UserError
from lenet_jax.experiment import Experiment
from lenet_jax.recognition.networks import TrainedNetwork

Log = Callable[[str], None]


def silent(line: str) -> None:
    """No log."""


class Model:
    """A trained network, or several whose scores are averaged.

    Images are uint8 [n, *shape], ink bright, or float of 0 to 1; `shape` is that of the images that
    it was trained on, (28, 28) for those of the package.
    """

    def __init__(self, networks: Sequence[TrainedNetwork]) -> None:
        from lenet_jax.recognition.predictor import predictor

        self._networks = tuple(networks)
        self._scores = [predictor(n.module, n.params, n.shape) for n in self._networks]

    @property
    def module(self) -> Any:
        """The `flax.linen` module, for `module.apply({"params": params}, inputs)`."""
        return self._networks[0].module

    @property
    def params(self) -> Any:
        """The parameters; of several networks the first one's."""
        return self._networks[0].params

    @property
    def card(self) -> dict[str, Any]:
        """Where it comes from: experiment, seed, data, configuration."""
        return self._networks[0].card

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: (height, width), or (height, width, channels)."""
        return self._networks[0].shape

    def scores(self, images: Any) -> np.ndarray:
        """float32 [n, classes], higher is better; of several networks the mean.

        Of a network over lines they are [n, 1, positions, classes] (section VII). Raises UserError
        for images of another shape or type.
        """
        levels = self._levels(images)
        return np.mean([scores(levels) for scores in self._scores], axis=0)

    def predict(self, images: Any) -> np.ndarray:
        """The predicted labels, int [n]. Raises as `scores` does, and for a network of strings."""
        self._require_single()
        return self.scores(images).argmax(axis=1)

    def maps(self, images: Any) -> dict[str, np.ndarray]:
        """The states of each layer by its name, float32 [n, maps, height, width].

        Of several networks the first one's; empty for a module that returns scores alone.
        """
        from lenet_jax.inspection.activations import states

        _, maps = states(self.module, self.params, self._levels(images))
        return {name: np.asarray(state) for name, state in maps.items()}

    def evaluate(self, images: Any, labels: Any) -> dict[str, Any]:
        """Errors, error rate in percent and confusion matrix [true label, predicted label].

        load("lenet5-best").evaluate(images, labels)["error_percent"]
        """
        from lenet_jax.measurement.evaluation import confusion

        self._require_single()
        scores, labels = self.scores(images), np.asarray(labels)
        if labels.shape != (len(scores),) or labels.dtype.kind not in "iu":
            raise UserError(
                f"labels are {labels.dtype} {list(labels.shape)}, expected are integers "
                f"[{len(scores)}], one for each image"
            )
        predicted = scores.argmax(axis=1)
        errors = int((predicted != labels).sum())
        return {
            "size": len(labels),
            "errors": errors,
            "error_percent": 100 * errors / len(labels),
            "confusion": confusion(labels, predicted, scores.shape[1]),
        }

    def recognize(self, picture: Any, reject_below: float | None = None) -> list[Any]:
        """The digits of a picture, as `lenet_jax.recognize` gives them."""
        from lenet_jax.recognition import decoding, reader

        self._require_single()
        shown = decoding.decode(picture)
        grey = decoding.grey(shown.pixels)
        return reader.read(grey, self.scores, self.card, reject_below, shown.scale).digits

    def classify(self, picture: Any) -> list[Any]:
        """The classes of the one object that a picture shows, the likeliest first.

        Each with label, name, score and confidence (`lenet_jax.recognition.objects.Candidate`);
        `picture` as in `recognize`.
        """
        from lenet_jax.recognition import decoding, objects

        self._require_single()
        return objects.classify(decoding.pixels(picture), self.scores, self.card)

    def _require_single(self) -> None:
        from lenet_jax.recognition import networks

        networks.require_single(self.card["experiment"], self.card["config"])

    def _levels(self, images: Any) -> np.ndarray:
        levels = np.asarray(images)
        if levels.dtype.kind == "f" and levels.size and 0 <= levels.min() <= levels.max() <= 1:
            levels = np.round(255 * levels).astype(np.uint8)
        if levels.dtype != np.uint8 or levels.shape[1:] != self.shape:
            sizes = ", ".join(map(str, self.shape))
            raise UserError(
                f"images are {levels.dtype} {list(levels.shape)}, allowed are uint8 of 0 to 255 or "
                f"floats of 0 to 1, [n, {sizes}]"
            )
        return levels


class Run(Model):
    """What `load` and `train` return: the model of the first seed, with all others.

    `seeds` holds a `Model` for each seed, `ensemble` is one that averages their scores. Of a run
    `folder` is its folder, `record` its result.json and `epochs` the rows of metrics.jsonl; of a
    pretrained network they are None and empty.
    """

    def __init__(
        self,
        networks: Sequence[TrainedNetwork],
        folder: Path | None = None,
        record: dict[str, Any] | None = None,
        epochs: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(networks[:1])
        self.seeds = tuple(Model([network]) for network in networks)
        self.ensemble = Model(networks)
        self.folder, self.record, self.epochs = folder, record, list(epochs)


def train(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    log: Log | None = None,
) -> Run:
    """Trains an experiment in a folder, from where an earlier call or program left it.

    `workdir`: default the experiment's own, or runs/<name>. `on_epoch` is called after each epoch
    with its row: epoch, loss, test_errors and so on. `log` gets the lines of a program, and with
    it the progress is shown; without it nothing is printed. Paths may be strings.
    Raises UserError as the program does.

        run = train(Experiment("mine", epochs=3), on_epoch=print)
        run.predict(images)
    """
    settings.set_up_jax()
    from lenet_jax.data import dataset
    from lenet_jax.training import loop

    folder = Path(workdir or experiment.workdir or Path("runs") / experiment.name)
    data = dataset.of(_with_paths(experiment).data, log or silent)

    def work() -> Any:
        return loop.train(
            experiment,
            data,
            folder,
            log or silent,
            on_epoch=on_epoch or (lambda row: None),
            quiet=log is None,
        )

    _outside_a_loop(work)
    return load(folder, experiment)


def load(
    source: str | Path,
    experiment: Experiment | None = None,
    *,
    trust_page: bool = False,
    log: Log | None = None,
) -> Run:
    """A pretrained network by name, or the newest checkpoint of a run's folder, all its seeds.

    A run whose page made its network executes that page: `trust_page` says that it may, where the
    page is not one that you have. `experiment` is the run's own where a program made it.
    Raises UserError for an unknown name, and for a folder without a run.

        load("lenet5-best").predict(images)
        load("runs/classic").ensemble.scores(images)
    """
    settings.set_up_jax()
    from lenet_jax.recognition import networks
    from lenet_jax.training import metrics

    name = str(source)
    found = _outside_a_loop(
        lambda: networks.every_seed(name, log or silent, trust_page, experiment)[-1]
    )
    folder = Path(source)
    if not (folder / "config.json").exists():
        return Run(found)
    result = folder / "result.json"
    record = json.loads(result.read_text()) if result.exists() else None
    return Run(found, folder, record, metrics.read(folder / "metrics.jsonl"))


def recognize(picture: Any, network: str = "", reject_below: float | None = None) -> list[Any]:
    """The digits of a picture, line by line; `read` without its lines and marks.

    for digit in recognize("photo.jpg"):
        print(digit.label, digit.confidence, digit.box)
    """
    return read(picture, network, reject_below).digits


def read(picture: Any, network: str = "", reject_below: float | None = None) -> Any:
    """What stands in a picture; see `lenet_jax.recognition.reader.recognize`.

    print(read("photo.jpg").text)
    """
    settings.set_up_jax()
    from lenet_jax.recognition import reader

    return _outside_a_loop(lambda: reader.recognize(picture, network, reject_below))


def _with_paths(experiment: Experiment) -> Experiment:
    """Folders given as strings, as paths."""
    data = experiment.data
    names = [name for name in ("data_dir", "manual_dir") if isinstance(getattr(data, name, 0), str)]
    paths: dict[str, Any] = {name: Path(getattr(data, name)) for name in names}
    return dataclasses.replace(experiment, data=dataclasses.replace(data, **paths))


def _outside_a_loop(work: Callable[[], Any]) -> Any:
    """The result of `work`; in a thread of its own where an event loop runs, as in a notebook.

    Orbax runs a loop of its own, which a running one does not allow.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()
