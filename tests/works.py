"""What the fault trials disturb: pieces of work that write, each with what it should leave."""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lenet_jax
import lenet_jax.train as training
from lenet_jax import pretrained
from lenet_jax.data import prepared
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment import SDLM, CrossEntropy, Experiment, serialization
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import loop

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lenet_jax.__file__).parent


@dataclass(frozen=True)
class Work:
    """Something that writes in a folder, again and again until it is done."""

    name: str
    writes: tuple[str, ...]  # the modules whose lines are where it is killed
    do: Callable[[Path], None]
    left: Callable[[Path], str]  # what is left of it, the same whatever happened on the way
    read: Callable[[Path], Any]  # by another verb: what is left again, or a UserError

    @property
    def files(self) -> frozenset[str]:
        return frozenset(str(PACKAGE / name) for name in self.writes)


def _examples(number: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (number, 28, 28), np.uint8)
    images[:, 0] = 0
    return Images(images, rng.integers(0, 10, number).astype(np.int32))


NOISE = Dataset(
    "noise", "drawn here", "0" * 64, _examples(30, 1), _examples(7, 2), _examples(11, 3)
)
LINEAR = Experiment(
    name="linear",
    model=Nielsen(hidden=()),
    loss=CrossEntropy(),
    optimizer=SDLM(mu=0.05, learning_rates=(0.02, 0.005)),
    epochs=3,
    batch_size=15,
)


def silent(line: str) -> None:
    pass


def _train(folder: Path) -> None:
    loop.train(LINEAR, NOISE, folder, silent, quiet=True)


def _left_by_run(folder: Path) -> str:
    """Rows, result, and the sum of the last state."""
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    state = json.loads((newest / "meta" / "metadata").read_text())["sha256"]
    return "\n".join((folder / name).read_text() for name in ("metrics.jsonl", "result.json")) + (
        f"{newest.name} {state}"
    )


def _read_run(folder: Path) -> str:
    """The newest parameters, as predict and evaluate load them."""
    from flax import traverse_util

    from lenet_jax.recognition import networks

    said: list[str] = []
    params = networks.load(str(folder), said.append).params
    if said:  # an earlier checkpoint is taken, and that is told
        raise UserError(said[0])
    flat = traverse_util.flatten_dict(params, sep=".")
    return hashlib.sha256(b"".join(np.asarray(flat[k]).tobytes() for k in sorted(flat))).hexdigest()


# A made set, as small as sets are prepared: ten images in TFDS's format.
def _drawn(split: str, files: Any) -> Any:
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8)
        yield number, {"image": prepared.png(image), "label": number}


TINY = prepared.Set(
    title="Tiny",
    name="tiny",
    version="1.0.0",
    splits=("train", "test"),
    urls={},
    homepage="",
    ways="nothing",
    examples=_drawn,
    features=lambda tfds: {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    },
)
FILES = {"file": Path("folder/file")}


def _prepare(folder: Path) -> None:
    _read_set(folder)


def _read_set(folder: Path) -> str:
    found = prepared.prepare(TINY, folder, FILES, silent)
    return prepared.sha256_of(prepared.read(TINY, found, (28, 28), lambda: FILES, silent))


def _left_by_set(folder: Path) -> str:
    """What is read, and that nothing lies beside it but what was moved aside."""
    names = {path.name for path in folder.iterdir()}
    strangers = names - {"tiny", "downloads", ".preparing-tiny.lock"}
    return _read_set(folder) + "".join(sorted(strangers))


def _card() -> tuple[Any, dict[str, Any]]:
    module, params = pretrained.load("lenet5-classic")
    return params, pretrained.card("lenet5-classic")


def _save(folder: Path) -> None:
    params, card = _card()
    pretrained.save("mine", params, card, folder)


def _left_by_save(folder: Path) -> str:
    names = ("mine.safetensors", "mine.json", "SHA256SUMS")
    return "".join(hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names)


def _read_saved(folder: Path) -> str:
    _, params = pretrained.load("mine", folder)
    return str(float(np.asarray(params["c1"]["kernel"], np.float64).sum())) + json.dumps(
        pretrained.card("mine", folder)
    )


def _record(folder: Path) -> None:
    from lenet_jax.measurement import records

    found = json.loads((ROOT / "results" / "classic.json").read_text())
    del found["sha256"]
    records.write(folder / "classic.json", found)


def _left_by_record(folder: Path) -> str:
    return (folder / "classic.json").read_text()


def _read_record(folder: Path) -> str:
    from lenet_jax.measurement import records

    there = json.loads((ROOT / "results" / "classic.json").read_text())["config"]
    config = serialization.as_json(serialization.from_json(there))
    return json.dumps(records.read(folder / "classic.json", config, "mnist"))


def _boost(folder: Path) -> None:
    from lenet_jax.baselines import boosting

    boosting.train(LINEAR, NOISE, folder, silent)


def _left_by_boosting(folder: Path) -> str:
    from lenet_jax.baselines import boosting

    found = boosting.train(LINEAR, NOISE, folder, silent)
    return f"{found.scores.tobytes().hex()} {found.train_errors} {found.unsure_below} {found.drawn}"


def program(folder: Path) -> None:
    """The command line's training, with its signals, of few examples in many short epochs."""
    flags = ["--config", str(ROOT / "experiments" / "fully_connected.py"), "--epochs", "40"]
    flags += ["--data.limit", "200", "--batch-size", "50", "--workdir", str(folder)]
    sys.argv[0] = "train"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if code := training.main(flags):
            raise SystemExit(code)


RUN = Work(
    "a run",
    ("training/metrics.py", "training/folder.py", "training/checkpoint.py", "training/loop.py"),
    _train,
    _left_by_run,
    _read_run,
)
PROGRAM = Work("a run by the program", (), program, _left_by_run, _read_run)
SET = Work("a data set", ("data/prepared.py", "data/kept.py"), _prepare, _left_by_set, _read_set)
NETWORK = Work(
    "a network with its card", ("pretrained/__init__.py",), _save, _left_by_save, _read_saved
)
RECORD = Work("a record", ("training/folder.py",), _record, _left_by_record, _read_record)
BOOSTING = Work("a boosting", ("data/kept.py",), _boost, _left_by_boosting, _left_by_boosting)
