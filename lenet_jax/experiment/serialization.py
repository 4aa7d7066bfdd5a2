"""An experiment as JSON, and back.

A part is a dictionary with the name of its class under "is": a bare name for the parts of this
room, "module:Class" for a network of the package, and "page:Class" for what a user's page made.
"""

import dataclasses
import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from lenet_jax.errors import UserError
from lenet_jax.experiment.arrays import Arrays
from lenet_jax.experiment.baseline import Baseline
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.distortion import Distortion
from lenet_jax.experiment.experiment import Experiment
from lenet_jax.experiment.loss import MAP, ML, CrossEntropy, Discriminative, SquaredError
from lenet_jax.experiment.optimizer import Optimizer
from lenet_jax.experiment.reproduced import Paper
from lenet_jax.experiment.strings import Strings

OF_PAGE = "page:"
PARTS: dict[str, Any] = {
    part.__name__: part
    for part in (
        *(Experiment, ML, MAP, CrossEntropy, SquaredError, Discriminative, *get_args(Optimizer)),
        *(Arrays, Baseline, Data, Distortion, Paper, Strings),
    )
}


def as_json(experiment: Experiment | Baseline) -> dict[str, Any]:
    """The resolved configuration in JSON's types, the class of each part under "is"."""
    return _plain(experiment)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        part: Any = value
        names: list[str] = [f.name for f in _fields(part)]
        fields = {name: _plain(getattr(part, name)) for name in names}
        return {"is": _named(type(part)), **fields}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):  # no named tuple
        return [_plain(part) for part in value]
    # An activation of a user's network, or an optimizer made by optax: only the page can make it.
    return {"is": OF_PAGE + getattr(value, "__name__", type(value).__name__)}


def _fields(part: Any) -> list[dataclasses.Field[Any]]:
    """A part's own fields: of a linen module not the two that flax adds."""
    module = hasattr(type(part), "apply")
    return [
        f
        for f in dataclasses.fields(part)
        if f.metadata.get("json", True) and not (module and f.name in ("parent", "name"))
    ]


def _named(part: type) -> str:
    if PARTS.get(part.__name__) is part:
        return part.__name__
    if part.__module__.startswith("lenet_jax."):
        return f"{part.__module__}:{part.__name__}"
    return OF_PAGE + part.__name__


def from_json(tree: Any, page: Any = None) -> Any:
    """The experiment that `as_json` wrote down.

    `page` is the experiment of its page, needed for what only that can make (`needs_page`).
    Raises KeyError, TypeError, AttributeError or ImportError for parts and fields that this
    version does not have, and UserError for parts that the page does not have.
    """
    if isinstance(tree, list):
        return tuple(from_json(value) for value in tree)
    if not isinstance(tree, dict):
        return tree
    name = tree["is"]
    parts = {k: from_json(v, getattr(page, k, None)) for k, v in tree.items() if k != "is"}
    if name.startswith(OF_PAGE):
        made = getattr(page, "__name__", type(page).__name__)
        if page is None or made != name.removeprefix(OF_PAGE):
            raise UserError(
                f"the experiment has a {name.removeprefix(OF_PAGE)} of its page, and the page "
                f"{'is not there' if page is None else f'has a {made}'}"
            )
        if hasattr(type(page), "clone"):
            return page.clone(**parts)
        return dataclasses.replace(page, **parts) if parts else page
    if _ours(name):
        module, _, name = name.partition(":")
        return getattr(importlib.import_module(module), name)(**parts)
    part = PARTS[name]
    if part is Arrays:
        parts["shape"] = tuple(parts["shape"])
    for f in dataclasses.fields(part):
        if "Path" in str(f.type) and isinstance(parts.get(f.name), str):
            parts[f.name] = Path(parts[f.name])
    return part(**parts)


def check(tree: Any) -> None:
    """Raises KeyError or TypeError for an experiment in JSON that this version does not have.

    Networks are not made, so that no jax is needed.
    """
    if unknown := tree.keys() - {"is"} - {f.name for f in dataclasses.fields(Experiment)}:
        raise KeyError(sorted(unknown)[0])
    for name, part in tree.items():
        if name == "model" and not needs_page(part) and not _ours(part["is"]):
            raise KeyError(part["is"])
        if name != "model" and not needs_page(part):
            from_json(part)


def _ours(name: str) -> bool:
    """Whether a name is one of a network of the package; looked for, not imported."""
    module, colon, _ = name.partition(":")
    parent, _, _ = module.rpartition(".")
    return bool(colon) and parent == "lenet_jax.models" and find_spec(module) is not None


def needs_page(tree: Any) -> bool:
    """Whether something in an experiment's JSON can only be made by its page."""
    if isinstance(tree, dict):
        return tree.get("is", "").startswith(OF_PAGE) or any(map(needs_page, tree.values()))
    return isinstance(tree, list) and any(map(needs_page, tree))
