"""The networks that a run has left in its checkpoints, from the first to the last."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_jax.errors import UserError
from lenet_jax.training import config, metrics


@dataclass(frozen=True)
class Network:
    """The parameters of one checkpoint, and `when`: after which pass, or update, it was saved."""

    when: str
    params: Any


def check(run: Path) -> config.Experiment:
    """What a run's network and optimizer are, from its config.json.

    Raises UserError for a folder that is no run, and for a run of a model not known here.
    """
    file = run / "config.json"
    try:
        written = json.loads(file.read_text())
        kind, known = written["model"]["is"], [n for n in vars(config) if _is_model(n)]
        if kind not in known:
            raise UserError(
                f"{run} is a run of another model, {kind}. Known here: {', '.join(known)}"
            )
        parts = {name: _part(written[name]) for name in ("model", "loss", "optimizer")}
        seeds = tuple(written["seeds"])
        return config.Experiment(written["name"], seed=written["seed"], seeds=seeds, **parts)
    except OSError as error:
        raise UserError(
            f"{run} is no run: {file.name}: {error.strerror}. Give the folder that a training "
            "has made, like runs/classic"
        ) from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not of a run that this version can read: {error}") from error


def _is_model(name: str) -> bool:
    return hasattr(getattr(config, name), "module")


def _part(written: dict[str, Any]) -> Any:
    """A part of an experiment as `config.as_json` wrote it."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in written.items() if k != "is"}
    return getattr(config, written["is"])(**fields)


def networks(run: Path, say: Callable[[str], None]) -> tuple[Any, list[Network]]:
    """The module of a run and its networks in the order of training, of several seeds the first.

    Changes nothing in the folder; a run may be going on there. `say` gets a line for each
    checkpoint that does not verify. Raises UserError as `check` does, and where no checkpoint is
    left.
    """
    experiment = check(run)

    import jax
    import numpy as np

    from lenet_jax.training import step
    from lenet_jax.training.checkpoint import Checkpoints

    device = jax.devices()[0]
    recipe = step.recipe(experiment, 1, step.mesh([device]))  # no state's shape depends on the 1
    seeds = np.asarray(experiment.all_seeds, np.uint32)
    here = jax.sharding.SingleDeviceSharding(device)
    like = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here),
        jax.eval_shape(lambda: step.initial_state(recipe, seeds)),
    )
    seed = f" of seed {seeds[0]}" if len(seeds) > 1 else ""
    passes = {row["step"]: f"pass {row['pass']}" for row in metrics.read(run / "metrics.jsonl")}
    folder = (run / "checkpoints").absolute()
    found = [
        Network(
            passes.get(at, f"update {at:,}") + seed,
            jax.tree.map(lambda a: np.asarray(a[0]), state.params),
        )
        for at, state in (Checkpoints(folder, None, say).each(like) if folder.is_dir() else ())
    ]
    if not found:
        raise UserError(
            f"{run} has no checkpoint that can be used: train it again, or go on with it, by the "
            "command that made it"
        )
    return recipe.model, found
