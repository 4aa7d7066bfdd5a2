"""One update, and the loops over updates and images that run on the devices.

A run trains one network or several, one for each seed; every state is stacked along a first axis,
[seeds, ...]. The devices form a mesh of two axes: those along "seeds" train networks of their own,
those along "data" share every batch of one. With one device the program is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from lenet_jax.data import distort, strings, views
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.experiment import SDLM, Distortion, Experiment, Loss, Strings
from lenet_jax.layers import contract
from lenet_jax.layers.contract import Shape, shown, window
from lenet_jax.layers.network import Network
from lenet_jax.native import formulation
from lenet_jax.training import curvature, losses, optimizers
from lenet_jax.training.replicas import BATCHES, STACKED, for_each_seed, on_cores, summed
from lenet_jax.training.scoring import CACHED, Params, predict, right

ABSENT = -1  # in an order: no sample here, the last batch of an epoch is short

# Without it XLA's CPU copies C5's weights before each update.
IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}


@dataclass(frozen=True)
class Recipe:
    """What stays the same during a run, as values: equal ones share what jit has compiled."""

    model: Network
    loss: Loss
    method: Any  # SDLM, Adam, Muon, SGD, or a page's own
    epochs: int
    examples: int
    batch_size: int
    distortion: Distortion
    mesh: Mesh
    shape: Shape
    precision: str = "float32"
    strings: Strings | None = None

    @property
    def sdlm(self) -> SDLM | None:
        """Where it is None no curvature is measured."""
        return self.method if isinstance(self.method, SDLM) else None

    @property
    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        return optimizers.of(self.method, self.epochs, -(-self.examples // self.batch_size))


class TrainState(NamedTuple):
    """All that a run needs to go on, exactly. An epoch's sums begin at zero with the epoch.

    The shapes are those of one network; a run holds them stacked, [seeds, ...].
    """

    params: Params
    opt_state: optax.OptState
    curvature: Params  # h of this epoch, zero before the first; {} where none is measured
    key: jax.Array  # shape=(), a network's only source of chance, never changed
    step: jax.Array  # shape=(), int32, updates so far
    loss: jax.Array  # shape=(), float32, summed over the examples of this epoch
    errors: jax.Array  # shape=(), int32, of the examples of this epoch, each before its update
    broken: jax.Array  # shape=(), int32, the first step whose loss was not finite, or -1


def recipe(experiment: Experiment, examples: int, on: Mesh, shape: Shape = SHAPE) -> Recipe:
    """The network, loss and optimizer of an experiment on so many training examples.

    Raises UserError for crops where the network has no window to crop.
    """
    if experiment.distortion.crops and window(experiment.model) is None:
        raise UserError(
            f"--distortion.crops does not go with {type(experiment.model).__name__}, which sees "
            "all of a picture and no window of it. Leave it out"
        )
    return Recipe(
        experiment.model,
        experiment.loss,
        experiment.optimizer,
        experiment.epochs,
        examples,
        experiment.batch_size,
        experiment.distortion,
        on,
        shape,
        experiment.precision,
        experiment.strings,
    )


@partial(jax.jit, static_argnums=0)
def initial_state(recipe: Recipe, seeds: jax.Array) -> TrainState:
    """Fresh weights from the seeds, uint32 [seeds]."""

    def one(seed: jax.Array, _) -> TrainState:
        for_weights, key = jax.random.split(jax.random.key(seed))
        image = shown(recipe.model, jnp.zeros((1, *recipe.shape)))
        params = recipe.model.init(for_weights, image)["params"]
        zero = jnp.zeros((), jnp.int32)
        return TrainState(
            params=params,
            opt_state=recipe.optimizer.init(params),
            curvature=jax.tree.map(jnp.zeros_like, params) if recipe.sdlm else {},
            key=key,
            step=zero,
            loss=jnp.zeros(()),
            errors=zero,
            broken=zero - 1,
        )

    return for_each_seed(recipe.mesh, one, seeds)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def order_of_epoch(
    keys: jax.Array, number: int, examples: int, batch_size: int, how: str, versions: int = 1
) -> jax.Array:
    """The samples of an epoch, int32 [seeds, steps, batch_size], from keys and the epoch's number.

    Of a fixed set of distorted versions sample v * examples + p is example p in version v; so many
    epochs as there are versions go through all of them once. "fixed" is the same random order each
    time (section III-B), "reshuffled" a new one. The last batch is filled up with ABSENT.
    """
    round_, part = (number - 1) // versions + 1, (number - 1) % versions

    def one(key: jax.Array) -> jax.Array:
        draw = jax.random.fold_in(jax.random.fold_in(key, 0), round_ if how == "reshuffled" else 0)
        order = jax.random.permutation(draw, examples * versions).astype(jnp.int32)
        order = order.reshape(versions, examples)[part]
        missing = -examples % batch_size
        return jnp.pad(order, (0, missing), constant_values=ABSENT).reshape(-1, batch_size)

    return jax.vmap(one)(keys)


def update(
    recipe: Recipe, state: TrainState, images: jax.Array, labels: jax.Array, present: jax.Array
) -> TrainState:
    """One update from this device's share of a batch: eq. 18 with the mean gradient of the batch.

    images [n, 28, 28] of 0 to 255, labels int32 [n], present bool [n]. Runs inside the mesh.
    """
    draw = jax.random.fold_in(jax.random.fold_in(state.key, 3), state.step)
    places = lax.axis_index("data") * len(images) + jnp.arange(len(images))

    def objective(
        params: Params,
        images: jax.Array,
        labels: jax.Array,
        present: jax.Array,
        places: jax.Array,
    ):
        scores = predict(recipe.model, params, images, draw, places, recipe.precision)
        each = losses.per_example(recipe.loss)(scores, labels)
        misclassified = ~right(scores, labels)
        return jnp.sum(each * present), jnp.sum(misclassified & present, dtype=jnp.int32)

    gradient = jax.value_and_grad(objective, has_aux=True)
    nothing = (jnp.zeros(()), jnp.zeros((), jnp.int32)), jax.tree.map(jnp.zeros_like, state.params)
    batch = images, labels, present, places
    (loss, errors), gradients = _in_parts(
        recipe.mesh, lambda *part: gradient(state.params, *part), nothing, batch
    )
    count = present.sum()
    if recipe.mesh.shape["data"] > 1:  # alone, a device would pay for the sum and gain nothing
        counts = errors.astype(jnp.float32), count.astype(jnp.float32)  # else they were a sum apart
        gradients, loss, counts = summed(recipe.mesh, (gradients, loss, counts))
        errors, count = (each.astype(jnp.int32) for each in counts)
    gradients = jax.tree.map(lambda g: g / count, gradients)
    updates, opt_state = recipe.optimizer.update(
        gradients, state.opt_state, state.params, curvature=state.curvature
    )
    fine = jnp.isfinite(loss) | (state.broken >= 0)
    return state._replace(
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
        step=state.step + 1,
        loss=state.loss + loss,
        errors=state.errors + errors,
        broken=jnp.where(fine, state.broken, state.step),
    )


def _in_parts(
    on: Mesh, total: Callable[..., Any], nothing: Any, batch: tuple[jax.Array, ...]
) -> Any:
    """total(*batch), a tree of sums over a batch; on a CPU over parts of it that fit its cache.

    `nothing` is the same tree, of zeros.
    """
    images = len(batch[0])
    if images <= CACHED or not on_cores(on):
        return total(*batch)
    missing = -images % CACHED  # filled up with examples that are not `present`

    def cut(a: jax.Array) -> jax.Array:
        filled = jnp.pad(a, ((0, missing),) + ((0, 0),) * (a.ndim - 1))
        return filled.reshape(-1, CACHED, *a.shape[1:])

    parts = tuple(cut(a) for a in batch)
    return lax.scan(
        lambda sums, part: (jax.tree.map(jnp.add, sums, total(*part)), None), nothing, parts
    )[0]


def distorted(
    recipe: Recipe, key: jax.Array, number: jax.Array | int, samples: jax.Array, images: jax.Array
) -> jax.Array:
    """What epoch `number` shows of some samples, from their images, both [n, *shape].

    New distortions in each epoch, or from a fixed set, whose version 0 is the example as it is.
    """
    fixed = recipe.distortion.versions is not None
    if recipe.distortion.shifted:
        return distort.shifted(images, samples // recipe.examples)
    if not (recipe.distortion.any or recipe.distortion.of_pictures):
        return images
    keys = _keys(key, 0 if fixed else number, samples)
    if recipe.distortion.of_pictures:
        return views.view(recipe.distortion, keys, images, window(recipe.model))
    changed = distort.distort(recipe.distortion, keys, images, formulation.sample)
    original = fixed & (samples < recipe.examples)
    return jnp.where(original[:, None, None], images, changed)


def _keys(key: jax.Array, number: jax.Array | int, samples: jax.Array) -> jax.Array:
    """Of what chance does to some samples in epoch `number`, one for each."""
    draw = jax.random.fold_in(jax.random.fold_in(key, 2), number)
    return jax.vmap(partial(jax.random.fold_in, draw))(samples)


def composed(
    recipe: Recipe,
    of: Strings,
    key: jax.Array,
    number: jax.Array | int,
    samples: jax.Array,
    digits: jax.Array,
    labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The strings that epoch `number` shows for some samples, each of which leads its own."""
    keys = _keys(key, number, samples)
    first = samples % len(labels)
    ranges = recipe.distortion
    return strings.compose(of, ranges, keys, digits, labels, first, formulation.sample)


@partial(jax.jit, static_argnums=0, donate_argnums=1, compiler_options=IN_PLACE)
def run_steps(
    recipe: Recipe,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    first: jax.Array | int,
    last: jax.Array | int,
) -> TrainState:
    """The updates first to last - 1 of an epoch, for every seed in one loop on the devices.

    images and labels are the training examples', [examples, ...]; or, where those have no room on
    the devices, what the updates from `first` on take, [seeds, steps, batch_size, ...].
    The bounds are not part of the compiled program: an epoch may be cut into chunks of any length,
    and the cuts leave no trace in the numbers.
    """
    own, shared = ((images, labels), ()) if _sent(recipe, images) else ((), (images, labels))

    def one(own, shared) -> TrainState:
        (state, order, sent), (whole, first, last) = own, shared

        def body(i: jax.Array, state: TrainState) -> TrainState:
            samples, number = order[i], state.step // len(order) + 1
            if recipe.strings is None:
                shown, labels = (a[i - first] for a in sent) if sent else _of(whole, samples)
                batch = distorted(recipe, state.key, number, samples, shown)
            else:
                batch, labels = composed(recipe, recipe.strings, state.key, number, samples, *whole)
            return update(recipe, state, batch, labels, samples != ABSENT)

        return lax.fori_loop(first, last, body, state)

    return for_each_seed(
        recipe.mesh,
        one,
        (state, order, own),
        (shared, first, last),
        own_specs=(STACKED, BATCHES, BATCHES),
    )


@partial(jax.jit, static_argnums=0)
def begin_epoch(
    recipe: Recipe, state: TrainState, number: int, images: jax.Array, labels: jax.Array
) -> TrainState:
    """Measures an epoch's curvature on some samples (appendix C) and sets its sums to zero.

    images and labels are the training examples', [examples, ...]; or, where those have no room on
    the devices, those of `curvature_samples`, [seeds, samples, ...].
    """
    own, shared = ((images, labels), ()) if _sent(recipe, images) else ((), (images, labels))

    def one(own, shared) -> TrainState:
        (state, sent), (number, whole) = own, shared
        state = state._replace(loss=jnp.zeros_like(state.loss), errors=jnp.zeros_like(state.errors))
        if recipe.sdlm is None:
            return state
        samples = _samples(recipe, state.key, number)
        images, labels = sent or _of(whole, samples)

        def total(images: jax.Array, labels: jax.Array, present: jax.Array) -> Params:
            average = curvature.diagonal(
                lambda params: contract.scores(recipe.model, params, images),
                state.params,
                lambda scores: (
                    present[:, None] * losses.curvature_at_scores(recipe.loss, scores, labels)
                ),
            )
            return jax.tree.map(lambda h: h * len(images), average)

        shown = distorted(recipe, state.key, number, samples, images)
        batch = shown, labels, jnp.ones(len(samples), bool)
        nothing = jax.tree.map(jnp.zeros_like, state.params)
        sums = _in_parts(recipe.mesh, total, nothing, batch)
        h = jax.tree.map(lambda h: h / len(samples), sums)
        if recipe.sdlm.never_below_previous:
            h = jax.tree.map(jnp.maximum, h, state.curvature)
        return state._replace(curvature=h)

    return for_each_seed(recipe.mesh, one, (state, own), (number, shared))


@partial(jax.jit, static_argnums=0)
def curvature_samples(recipe: Recipe, keys: jax.Array, number: int) -> jax.Array:
    """The samples on which epoch `number` measures the curvature, int32 [seeds, samples]."""
    return jax.vmap(lambda key: _samples(recipe, key, number))(keys)


def _samples(recipe: Recipe, key: jax.Array, number: jax.Array | int) -> jax.Array:
    if recipe.sdlm is None:
        return jnp.zeros(0, jnp.int32)
    draw = jax.random.fold_in(jax.random.fold_in(key, 1), number)
    samples = jax.random.permutation(draw, recipe.examples)[: recipe.sdlm.samples]
    if recipe.distortion.versions:
        samples += (number - 1) % recipe.distortion.versions * recipe.examples
    return samples


def _sent(recipe: Recipe, images: jax.Array) -> bool:
    """Whether each network has images of its own, and not all of them those of all examples."""
    return images.ndim > 1 + len(recipe.shape)


def _of(examples: tuple[jax.Array, jax.Array], samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, labels = examples
    return images[samples % len(labels)], labels[samples % len(labels)]


@jax.jit
def finite(params: Params) -> jax.Array:
    """Which networks have nothing but finite parameters, bool [seeds]."""
    leaves = jax.tree.leaves(params)
    each = [jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in leaves]
    return jnp.stack(each).all(axis=0)
