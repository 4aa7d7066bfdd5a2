"""Trained networks, from the package or from a run of one's own."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_jax import pretrained
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.experiment import Arrays, Data, Distortion, Experiment, Strings, pages, serialization
from lenet_jax.experiment.checks import require_local

# What config.json has beside the experiment.
DATA = ("dataset", "dataset_sha256", "dataset_shape", "dataset_classes", "dataset_names")
BESIDE = (*DATA, "page", "kernels")

if TYPE_CHECKING:
    from flax import linen as nn


@dataclass(frozen=True)
class TrainedNetwork:
    """Module, parameters and card of a trained network.

    `when`: of a run's network after which epoch, or update, it was saved.
    """

    module: "nn.Module"
    params: Any
    card: dict[str, Any]
    when: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images that it was trained on: (height, width), and channels where they have."""
        return tuple(self.card.get("dataset_shape", SHAPE))


def load(
    source: str, log: Callable[[str], None] = print, trust_page: bool = False
) -> TrainedNetwork:
    """A pretrained network, or that of a run's newest checkpoint; otherwise as `history`."""
    return history(source, log, trust_page)[-1]


def history(
    source: str, log: Callable[[str], None] = print, trust_page: bool = False
) -> list[TrainedNetwork]:
    """A pretrained network, or what a run has left in its checkpoints, in the order of training.

    `source` is a name of `pretrained.names()` or else a run's folder, which stays as it is; the
    run may be going on there. Of a run with several seeds it is the first. `log` gets a line for
    each checkpoint that does not verify. A run with parts of its page executes that page (`check`).
    Raises UserError as `check` does, and for a folder without a checkpoint of the model that its
    config.json names.
    """
    return [each[0] for each in every_seed(source, log, trust_page)]


def every_seed(
    source: str,
    log: Callable[[str], None] = print,
    trust_page: bool = False,
    experiment: Experiment | None = None,
) -> list[list[TrainedNetwork]]:
    """As `history`, for each checkpoint the networks of all seeds.

    `experiment` is the run's own where a program made it and not a page.
    """
    written = check(source, trust_page=trust_page, experiment=experiment)
    if written is None:
        return [[TrainedNetwork(*pretrained.load(source), pretrained.card(source))]]
    data = {name: written[name] for name in DATA if name in written}

    import jax
    import jax.numpy as jnp
    import numpy as np

    from lenet_jax.layers.contract import shown
    from lenet_jax.layers.network import connected
    from lenet_jax.training import replicas, step
    from lenet_jax.training.checkpoint import Checkpoints, Saved

    run = Path(source).absolute()
    device = jax.devices()[0]
    try:
        experiment = _experiment_of(run, written, experiment)
        shape = tuple(data.get("dataset_shape", SHAPE))
        # No state's shape depends on how many examples there are.
        recipe = step.recipe(experiment, 1, replicas.mesh([device]), shape)
        seeds = np.asarray(experiment.all_seeds, np.uint32)
        here = jax.sharding.SingleDeviceSharding(device)
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here),
            jax.eval_shape(lambda: step.initial_state(recipe, seeds)),
        )
        module = experiment.model
        image = shown(module, jnp.zeros((1, *shape)))
    except UserError:
        raise
    except Exception as error:  # whatever a damaged value makes of flax, jax or a page
        raise _damaged(run, error) from error
    written = {name: value for name, value in written.items() if name not in BESIDE}
    card = {"experiment": experiment.name, **data, "config": written}

    def trained(place: int, seed: int, at: int, saved: Saved) -> TrainedNetwork:
        own = jax.tree.map(lambda a: np.asarray(a[place]), saved.state.params)
        last = saved.rows[-1] if saved.rows else {}
        when = f"epoch {last['epoch']}" if last.get("step") == at else f"update {at:,}"
        when += f" of seed {seed}" if len(seeds) > 1 else ""
        about = card | {"seed": seed, "updates": at}
        return TrainedNetwork(module, connected(module, own, image), about, when)

    found = [
        [trained(place, int(seed), at, saved) for place, seed in enumerate(seeds)]
        for at, saved in Checkpoints(run / "checkpoints", None, log).each(like)
    ]
    if not found:
        raise UserError(
            f"{run}: no checkpoint that can be used. Wait for its first epoch, or train it again "
            "by the command that made it"
        )
    return found


def check(
    source: str, only: str = "", trust_page: bool = False, experiment: Experiment | None = None
) -> dict[str, Any] | None:
    """The configuration of a run, as its config.json has it, or None for a pretrained network.

    Raises UserError where `source` is neither, for a run of another version, and, where `only`
    names a network, for a run of another. A run whose page made a part of it can only be loaded
    by executing that page: unless the user has the same page where the run was begun, that must
    be asked for (`trust_page`). Imports no jax.
    """
    if source in pretrained.names():
        return None
    require_local("network", source)
    known = f"Give a pretrained network ({', '.join(pretrained.names()) or 'none'}) or a run folder"
    run = Path(source)
    if not run.is_dir():
        raise UserError(f"{source}: no such network, and no folder. {known}")
    missing = [n for n in ("config.json", "checkpoints") if not (run / n).exists()]
    if missing:
        raise UserError(f"{source}: no folder of a run, it has no {missing[0]}. {known}")
    try:
        written = json.loads((run / "config.json").read_text())
        serialization.check({n: v for n, v in written.items() if n not in BESIDE})
        model = written["model"]["is"].partition(":")[2]
        if serialization.needs_page(written) and experiment is None:
            _check_page(run, written.get("page"), trust_page)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged value makes of the parts
        raise _damaged(run, error) from error
    if only and model != only:
        raise UserError(f"{run} holds a {model}, and this needs a {only}. {known}")
    return written


def require_single(source: str, written: dict[str, Any] | None) -> None:
    """Raises UserError for a run whose examples are strings of digits (`check`'s configuration)."""
    if written and written.get("strings"):
        raise UserError(
            f"{source} was trained on strings of digits, and this is for networks of single ones. "
            "Give one of those; `evaluate` counts what it misreads"
        )


def strings_of(card: dict[str, Any]) -> tuple[Strings, Distortion]:
    """The strings that a network was trained on, and the distortion of their digits."""
    config = card["config"]
    return serialization.from_json(config["strings"]), serialization.from_json(config["distortion"])


def _damaged(run: Path, error: Exception) -> UserError:
    reason = f"nothing here is called {error}" if isinstance(error, KeyError) else str(error)
    first = (reason.strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"{run / 'config.json'} is damaged or of another version ({first}). Give another run"
    )


def data_of(source: str, trust_page: bool = False) -> Data | Arrays:
    """What a run was trained on, all of it, and for a pretrained network what there is by default.

    Arrays come from the run's page, which is executed. Folders that the run named and that are not
    here are forgotten. Raises UserError as `check` does, and where the page makes other arrays.
    """
    written = check(source, trust_page=trust_page)
    if written is None:
        return Data()
    if written["data"]["is"] == "Arrays":
        run = Path(source)
        _check_page(run, written.get("page"), trust_page)
        data = _page_of(run, written["page"]).data
        if not isinstance(data, Arrays) or data.sha256 != written["data"]["sha256"]:
            raise UserError(
                f"{run}: its page makes other arrays now than those that it was trained on"
            )
        return dataclasses.replace(data, limit=None, validation=0)
    asked: Data = serialization.from_json(written["data"])
    here = {
        name: folder if folder and folder.exists() else None
        for name, folder in (("data_dir", asked.data_dir), ("manual_dir", asked.manual_dir))
    }
    return dataclasses.replace(asked, limit=None, validation=0, **here)


def _page_of(run: Path, about: dict[str, Any]) -> Experiment:
    kept = run / "page" / Path(about["path"]).name
    return pages.load(f"{kept}:{about['variant']}".removesuffix(":"))


def _check_page(run: Path, about: dict[str, Any] | None, trust_page: bool) -> None:
    """Raises UserError unless a run's page is as it was, and the user's own or trusted."""
    if about is None:
        raise UserError(
            f"{run}: its network or optimizer was made in a program, not in a page, so only that "
            "program can load it: lenet_jax.load(run, experiment)"
        )
    kept = pages.page_in(run / "page", about["path"], about["variant"])
    if kept is None or kept.sha256 != about["sha256"]:
        raise UserError(
            f"{run / 'page'}: the run's page is {'gone' if kept is None else 'changed'}, and its "
            "network or optimizer can only be made by it. Put it back as it was"
        )
    own = Path(about["path"])
    same = own.is_file() and own.read_text(encoding="utf-8") == kept.texts[own.name]
    if not same and not trust_page:
        raise UserError(
            f"{run}: loading this run executes its page, {kept.path}, which is not one that you "
            f"have at {own}. Read it first; --trust-page executes it"
        )


def _experiment_of(run: Path, written: dict[str, Any], own: Experiment | None) -> Experiment:
    """The experiment of a run, its page executed where it needs that (`check` said yes)."""
    experiment = {n: v for n, v in written.items() if n not in BESIDE}
    if not serialization.needs_page(experiment):
        return serialization.from_json(experiment)
    return serialization.from_json(experiment, own or _page_of(run, written["page"]))
