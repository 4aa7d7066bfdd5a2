"""The mesh of devices, and the networks of a run on it: one for each seed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

STACKED, WHOLE = P("seeds"), P()  # how arrays lie on the mesh


def mesh(devices: Sequence[Any], seeds: int = 1) -> Mesh:
    """The devices for a run: they share the batches of one network, or the networks of several."""
    shape = (1, len(devices)) if seeds == 1 else (min(seeds, len(devices)), 1)
    return jax.make_mesh(
        shape, ("seeds", "data"), (AxisType.Auto,) * 2, devices=devices[: math.prod(shape)]
    )


def replicated(on: Mesh, tree: Any) -> Any:
    """The arrays of a tree, whole on every device."""
    return jax.device_put(tree, NamedSharding(on, WHOLE))


def for_each_seed(
    on: Mesh,
    function: Callable[..., Any],
    own: Any,
    shared: Any = (),
    own_specs: Any = STACKED,
    shared_specs: Any = WHOLE,
) -> Any:
    """function(own, shared) for every network, inside the mesh; trees stacked as `own` is.

    On a CPU core one after the other, so that each is what it is alone (at batch 1 to the last
    bit). On a GPU or TPU under one vmap.
    """
    seeds = len(jax.tree.leaves(own)[0])
    missing = -seeds % on.shape["seeds"]
    if missing:  # the last devices repeat the last network
        places = np.minimum(np.arange(seeds + missing), seeds - 1)
        own = jax.tree.map(lambda a: a[places], own)

    def shard(own, shared):
        if jax.default_backend() == "cpu":
            return lax.map(lambda one: function(one, shared), own)
        return jax.vmap(lambda one: function(one, shared))(own)

    result = jax.shard_map(
        shard,
        mesh=on,
        in_specs=(own_specs, shared_specs),
        out_specs=STACKED,
        check_vma=False,
    )(own, shared)
    if missing:
        result = jax.tree.map(lambda a: a[:seeds], result)
    # Always the same layout, or the next call would be compiled once more.
    layout = NamedSharding(on, WHOLE if missing else STACKED)
    return lax.with_sharding_constraint(result, layout)
