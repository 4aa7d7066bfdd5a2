"""Counts a live network's parameters and connections, by running it."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from lenet_jax.layers.contract import Shape, shown


@dataclass(frozen=True)
class Layer:
    """A row of the paper's account (section II-B). `fixed` weights are no trainable parameters."""

    name: str
    parameters: int
    fixed: int = 0
    maps: int | None = None
    height: int | None = None
    width: int | None = None
    units: int | None = None
    connections: int | None = None
    multiply_adds: int | None = None


def count(module: nn.Module, shape: Shape = (28, 28)) -> list[Layer]:
    """The layers of a network in the order in which an image runs through them.

    Of layers that are not the package's the parameters are counted, and the rest is None.
    Otherwise nothing is known here of any one layer. It is run once more on states that are all 1,
    with weights that are all 1, biases 0 and no activation: what comes out of each unit is the
    number of states it reads. A weight counts if a sum depends on it, a bias has one more
    connection to each unit. Multiply-adds are the connections without the biases. Pooling without
    parameters has none.
    """
    image = shown(module, jnp.zeros((1, *shape)))
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)
    names: list[str] = []

    @jax.jit  # one program: compiled one by one the sums take longer
    def numbers(variables: Any) -> list[dict[str, Any]]:
        layers: list[dict[str, Any]] = []
        weighed: list[tuple[Any, Any, Any]] = []  # the weights, those that count, connections

        def observe(next_method, args, kwargs, context):
            if not context.module.path:  # the network itself, or a layer run by `_numbers`
                return next_method(*args, **kwargs)
            if context.method_name == "weigh":
                weights, states = (jnp.ones_like(a) for a in args)
                sums, backward = jax.vjp(next_method, weights, states)
                (slopes, _) = backward(jnp.ones_like(sums))
                weighed.append((args[0], jnp.count_nonzero(slopes), None))
            if context.method_name == "distances":
                centres, states = args
                terms = next_method(jnp.zeros_like(centres), jnp.ones_like(states))
                weighed.append((centres, centres.size, _of_maps(terms)))
            result = next_method(*args, **kwargs)
            if context.method_name == "__call__" and weighed:
                names.append("/".join(context.module.path))
                layers.append(_numbers(context.module, args[0], result, *weighed.pop()))
            return result

        with nn.intercept_methods(observe):
            module.apply(variables, image)
        return layers

    found = numbers(jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes))
    known = [
        Layer(name, **{what: int(np.asarray(n).sum(dtype=np.int64)) for what, n in layer.items()})
        for name, layer in zip(names, found, strict=True)
    ]
    others: Counter[str] = Counter()
    flat: dict[Any, Any] = traverse_util.flatten_dict(shapes["params"])
    for path, leaf in flat.items():
        if (name := "/".join(path[:-1])) not in names:
            others[name] += leaf.size
    return known + [Layer(name, size) for name, size in others.items()]


def _numbers(module, states, result, weights, used, connections) -> dict[str, Any]:
    own = module.variables.get("params", {})
    biases = [leaf.size for leaf in own.values() if leaf is not weights]
    trained = len(biases) < len(own)
    maps, height, width, _ = result.shape
    if connections is None:
        ones = {k: jnp.ones_like(v) if v is weights else jnp.zeros_like(v) for k, v in own.items()}
        bare = {"activation": "none"} if hasattr(module, "activation") else {}
        layer = module.clone(parent=None, **bare)
        sums = layer.apply({"params": ones}, jnp.ones_like(states))
        connections = _of_maps(sums)
    units = maps * height * width
    return {
        "maps": maps,
        "height": height,
        "width": width,
        "units": units,
        "parameters": (used if trained else 0) + sum(biases),
        "fixed": 0 if trained else used,
        "connections": jnp.append(connections, len(biases) * units),
        "multiply_adds": connections,
    }


def _of_maps(sums: jax.Array) -> jax.Array:
    """How many there are in each map: of a large network's all a float32 cannot count."""
    return sums.astype(jnp.int32).sum(axis=(-3, -2, -1)).ravel()
