"""The mesh of devices, and the networks of a run on it: one for each seed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import psutil
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lenet_jax.training import hosts

STACKED, WHOLE = P("seeds"), P()  # how arrays lie on the mesh
BATCHES = P("seeds", None, "data")  # [seeds, steps, batch_size, ...]


def mesh(devices: Sequence[Any], seeds: int = 1) -> Mesh:
    """The devices for a run: they share the batches of one network, or the networks of several."""
    shape = (1, len(devices)) if seeds == 1 else (min(seeds, len(devices)), 1)
    return jax.make_mesh(
        shape, ("seeds", "data"), (AxisType.Auto,) * 2, devices=devices[: math.prod(shape)]
    )


def replicated(on: Mesh, tree: Any) -> Any:
    """The NumPy arrays of a tree, whole on every device."""
    return jax.tree.map(lambda a: laid_out(on, WHOLE, a.shape, a.__getitem__), tree)


def laid_out(
    on: Mesh, spec: P, shape: tuple[int, ...], part: Callable[[Any], np.ndarray]
) -> jax.Array:
    """An array on the devices. `part` is asked for the slices that this host's devices need."""
    return jax.make_array_from_callback(shape, NamedSharding(on, spec), part)


def memory_of(on: Mesh) -> float:
    """The bytes that the networks of a run have, on the device with the least of all hosts."""

    def bytes_of(device: Any) -> float:
        stats = device.memory_stats() or {}
        return stats.get("bytes_limit") or psutil.virtual_memory().total

    return float(hosts.gathered(float(min(map(bytes_of, on.local_devices)))).min())


def on_cores(on: Mesh) -> bool:
    """Whether the devices are cores of a CPU, which have one memory and small caches."""
    return on.devices.flat[0].platform == "cpu"


def summed(on: Mesh, tree: Any) -> Any:
    """Float32 numbers added up over the devices that share a batch; inside the mesh."""
    if on_cores(on) and jax.process_count() > 1:
        # Between the cores of several hosts each array is a message of its own, and a slow one.
        numbers, back = ravel_pytree(tree)
        return back(lax.psum(numbers, "data"))
    return lax.psum(tree, "data")


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
        if on_cores(on):
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
