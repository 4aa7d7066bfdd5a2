"""What is asked of a network: any flax.linen module that returns scores, or (scores, maps)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.errors import UserError
from lenet_jax.layers.inputs import WINDOWS, normalize

Shape = tuple[int, ...]  # of an image: (height, width) or (height, width, channels)


def shown(module: nn.Module, images: Any) -> jax.Array:
    """What a network sees of images [n, *shape] of 0 to 255.

    Its own frame (`inputs.normalize`); a module that names none gets what other libraries give,
    float32 [n, height, width, channels] of 0 to 1.
    """
    frame = getattr(module, "frame", None)
    if frame is not None:
        return normalize(images, frame)
    pixels = jnp.asarray(images, jnp.float32) / 255
    return pixels if pixels.ndim == 4 else pixels[..., None]


def window(module: nn.Module) -> int | None:
    """The side of the square that a network sees of a picture; None: all of it."""
    return WINDOWS.get(getattr(module, "frame", ""))


def run(
    module: nn.Module, variables: Any, inputs: jax.Array, rngs: Any = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(scores, maps) of inputs that are `shown`; a module that returns scores alone has no maps."""
    found: Any = module.apply(variables, inputs, rngs=rngs)
    return found if isinstance(found, tuple) else (found, {})


def scores(module: nn.Module, params: Any, images: Any) -> jax.Array:
    """Scores [n, classes] of images [n, *shape] of 0 to 255."""
    return run(module, {"params": params}, shown(module, images))[0]


def check(module: nn.Module, shape: Shape, classes: int, of_lines: bool = False) -> None:
    """Raises UserError where a module does not give images of a shape one score for each class.

    `of_lines`: at each of several positions beside one another (section VII).
    """
    name = type(module).__name__
    images = jax.ShapeDtypeStruct((2, *shape), jnp.uint8)
    inputs = _shapes(name, shape, partial(shown, module), images)
    variables = _shapes(name, shape, module.init, jax.random.key(0), inputs)
    if others := sorted(set(variables) - {"params"}):
        raise UserError(
            f"{name} keeps {', '.join(others)} beside its parameters, which alone are trained. "
            "Give it layers without state of their own (nn.GroupNorm for nn.BatchNorm)"
        )
    if not jax.tree.leaves(variables):
        raise UserError(f"{name} has no parameters, so there is nothing to train")
    found, _ = _shapes(name, shape, partial(run, module), variables, inputs)
    found_shape = found.shape if isinstance(found, jax.ShapeDtypeStruct) else ()
    if of_lines:
        found_shape = found_shape[:2] + found_shape[3:]  # whatever the number of positions
    if found_shape != ((2, 1, classes) if of_lines else (2, classes)):
        given = list(found.shape) if hasattr(found, "shape") else type(found).__name__
        raise UserError(
            f"{name} returns {given} for two images of {_sized(shape)}, expected are scores "
            f"[2, {'1, positions, ' * of_lines}{classes}], one for each class of the data, or "
            "(scores, maps)"
        )


def _shapes(name: str, shape: Shape, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except UserError:
        raise
    except Exception as error:  # whatever a user's module may raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"{name} fails on images of {_sized(shape)} ({type(error).__name__}: {reason}). Give "
            "it such images as it takes, or another network"
        ) from error


def _sized(shape: Shape) -> str:
    return "x".join(map(str, shape))
