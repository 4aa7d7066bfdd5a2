"""A trained network, from the package or from a run of one's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.training import config

if TYPE_CHECKING:
    from lenet_jax.models.lenet import LeNet5

Card = dict[str, Any]


def load(source: str, say: Callable[[str], None] = print) -> "tuple[LeNet5, Any, Card]":
    """Module, parameters and card of a pretrained network, or of a run's newest checkpoint.

    `source` is a name of `pretrained.names()` or else a run's folder, which stays as it is. Of a
    run with several seeds it is the first. `say` gets a line for each damaged checkpoint that was
    passed over. Raises UserError for what is neither, for a folder without a checkpoint that
    verifies, and for one of another model than its config.json says.
    """
    check(source)
    if source in pretrained.names():
        return *pretrained.load(source), pretrained.card(source)
    return _of_run(Path(source).absolute(), say)


def check(source: str) -> None:
    """Raises UserError unless `source` names a network or a run. Imports no jax."""
    if source in pretrained.names():
        return
    known = f"Give a pretrained network ({', '.join(pretrained.names()) or 'none'}) or a run folder"
    if not Path(source).is_dir():
        raise UserError(f"{source}: no such network, and no folder. {known}")
    missing = [n for n in ("config.json", "checkpoints") if not (Path(source) / n).exists()]
    if missing:
        raise UserError(f"{source}: no folder of a run, it has no {missing[0]}. {known}")


def _of_run(folder: Path, say: Callable[[str], None]) -> "tuple[LeNet5, Any, Card]":
    import jax
    import numpy as np

    from lenet_jax.training import step
    from lenet_jax.training.checkpoint import Checkpoints

    try:
        resolved = json.loads((folder / "config.json").read_text())
        data = {name: resolved.pop(name) for name in ("dataset", "dataset_sha256")}
        experiment: config.Experiment = config.from_json(resolved)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / 'config.json'} is damaged or of another version ({error}). Give another run"
        ) from error
    device = jax.devices()[0]
    recipe = step.recipe(experiment, 1, step.mesh([device]))
    seeds = np.asarray(experiment.all_seeds, np.uint32)
    layout = jax.sharding.SingleDeviceSharding(device)
    like = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=layout),
        jax.eval_shape(lambda: step.initial_state(recipe, seeds)),
    )
    states = [state for _, state in Checkpoints(folder / "checkpoints", None, say).each(like)]
    if not states:
        raise UserError(f"{folder}: no checkpoint yet. Wait for its first pass, or give another")
    state = states[-1]
    card = {
        "experiment": experiment.name,
        **data,
        "seed": int(seeds[0]),
        "updates": int(state.step[0]),
        "config": resolved,
    }
    return experiment.model.module(), jax.tree.map(lambda a: np.asarray(a[0]), state.params), card
