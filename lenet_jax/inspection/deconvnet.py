"""A deconvnet: which pixels of an image excite a unit (Zeiler and Fergus 2014, section 2.1).

All other states of the unit's layer are set to zero, and what is left goes down to the pixels:
through the place that each maximum came from (its switch), rectified, through the transposed
kernels. That is a backward pass with other rules for three methods of a network. Averages,
subsampling, shares and connection tables are linear, so their own transposes are right, and biases
drop out.

The authors rectify because their states are never negative, and nor should be what is made of
them. States of a tanh have both signs, and a unit is excited by low states as well as by high ones:
there a signal keeps its sign, or half of what excites the unit would be missing. Without maxima
there are no switches either, and what comes down is the same in every image, but for its scale.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.arithmetic.windows import nine, to_places
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.inspection import activations
from lenet_jax.layers.contract import Shape, run, shown
from lenet_jax.layers.network import Network

Function = Callable[..., jax.Array]
NEVER_NEGATIVE = ("relu", "sigmoid")


@partial(jax.jit, static_argnames=("module", "layer", "rectified"))
def projections(
    module: nn.Module,
    params: Any,
    images: Any,
    layer: str,
    kept: Any,
    rectified: bool | None = None,
) -> jax.Array:
    """What of each image comes back from the states of a layer that are kept, as the network sees
    images: float32 [n, height, width] or [n, height, width, channels].

    images: uint8 [n, *shape]. kept: bool [n, maps, height, width] of the layer. Not `rectified`, a
    signal passes an activation as if its slope were 1; None: rectified where the network's states
    are never negative (`NEVER_NEGATIVE`). A unit with a negative state, rectified, gives zeros.
    Raises UserError for a network that does not activate by `Network.activate`.
    """
    network = checked(module)
    if rectified is None:
        rectified = network.activation in NEVER_NEGATIVE
    rules = RULES if rectified else RULES | {"activate": _unchanged}

    def replaced(next_method: Function, args: tuple, kwargs: dict, context) -> Any:
        rule = rules.get(context.method_name)
        return next_method(*args, **kwargs) if rule is None else rule(next_method)(*args)

    def states(inputs: jax.Array) -> jax.Array:
        return run(module, {"params": params}, inputs)[1][layer]

    with nn.intercept_methods(replaced):
        found, backward = jax.vjp(states, shown(module, images))
    return backward(jnp.where(kept, found, 0))[0]


def layers(module: nn.Module, params: Any, shape: Shape = SHAPE) -> list[str]:
    """The layers with kernels among a network's maps, in their order: convolutions and, as windows
    of all there is, fully connected ones.

    Raises UserError where there is none.
    """
    found = [n for n in activations.shapes(module, params, shape) if "kernel" in params.get(n, {})]
    if not found:
        raise UserError(
            f"{type(module).__name__} has no layer with kernels among its maps. Return (scores, "
            "maps), each of the maps by the name of its layer"
        )
    return found


def top(module: nn.Module, params: Any, shape: Shape = SHAPE) -> str | None:
    """The last layer with kernels and more than one unit to a map, or None."""
    of = activations.shapes(module, params, shape)
    found = [n for n, (_, *size) in of.items() if "kernel" in params.get(n, {}) and max(size) > 1]
    return found[-1] if found else None


def checked(module: nn.Module) -> Network:
    """The module; UserError for one whose activations could not be given another rule."""
    if not isinstance(module, Network):
        raise UserError(
            f"{type(module).__name__} is no network of lenet_jax.layers.network, so "
            "where it activates is not known and its signal would be an ordinary gradient. Make it "
            "a Network that activates by `activate`, or draw saliency, which is that gradient"
        )
    return module


def _backward(rule: Callable[[Any, jax.Array], jax.Array]) -> Callable[[Function], Function]:
    """A method of one argument, as it is; on the way back `rule` of its argument and the signal."""

    def replace(method: Function) -> Function:
        replaced = jax.custom_vjp(lambda states: method(states))
        replaced.defvjp(
            lambda states: (method(states), states),
            lambda states, signal: (rule(states, signal),),
        )
        return replaced

    return replace


def _switched(folded: jax.Array, signal: jax.Array) -> jax.Array:
    """To one place of each window: of equal states the first, from the left and the top.

    An ordinary gradient is shared between equal states. On paper without ink, where all four are
    equal, that would blur what is one place in the authors' network.
    """
    places = jax.lax.broadcasted_iota(jnp.int32, folded.shape, 0)
    return jnp.where(folded.argmax(axis=0)[None] == places, signal[None], 0)


def _switched_overlapping(states: jax.Array, signal: jax.Array) -> jax.Array:
    """The same where windows overlap: a place gets the signals of all that switched to it."""
    first = jnp.stack(nine(states)).argmax(axis=0)
    return to_places(states, [jnp.where(first == place, signal, 0) for place in range(9)])


_unchanged = _backward(lambda states, signal: signal)

RULES = {
    "activate": _backward(lambda states, signal: jnp.maximum(signal, 0)),
    "largest": _backward(_switched),
    "largest_overlapping": _backward(_switched_overlapping),
    "normalize": _unchanged,  # local contrasts, as the authors had them pass
}
