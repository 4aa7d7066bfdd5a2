from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from conftest import apply
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from lenet_jax.errors import UserError
from lenet_jax.experiment import ML, SDLM, CrossEntropy, Experiment, SquaredError
from lenet_jax.layers import activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import normalize
from lenet_jax.layers.pooling import AveragePooling, MaxPooling, Subsampling
from lenet_jax.layers.rbf import RBF
from lenet_jax.models.lenet import TABLE_I, LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import curvature, losses, optimizers, replicas, step

TABLE = ((0,), (0, 1), (1, 2))
CODES = ((1.0, -1.0, 1.0, 1.0), (-1.0, -1.0, 1.0, -1.0), (1.0, 1.0, -1.0, 1.0))


class Small(nn.Module):
    """Every layer once: 8x8 -> 3@6x6 -> 3@3x3 -> 3@2x2 -> 4@1x1 -> 3 classes."""

    pooling: str = "subsampling"
    head: str = "rbf"
    adaptive: bool = False

    @nn.compact
    def __call__(self, images):
        x = jnp.moveaxis(images, 0, -1)[None]
        x = self.activate(Convolution(3, size=3, name="c1")(x))
        if self.pooling == "subsampling":
            x = self.activate(Subsampling(name="s2")(x))
        else:
            pool = {"average": AveragePooling, "max": MaxPooling}[self.pooling]
            x = pool(name="s2")(x)
        x = self.activate(Convolution(3, size=2, table=TABLE, name="c3")(x))
        x = self.activate(Convolution(4, size=2, name="f4")(x))
        if self.head == "rbf":
            x = RBF(self.adaptive, CODES, name="output")(x)
        else:
            x = Convolution(3, size=1, name="output")(x)
            x = self.activate(x) if self.head == "states" else x
        return x[:, 0, 0].T

    def activate(self, sums):
        return activation.scaled_tanh(sums)


def graph_of(params, image):
    flat = {f"{layer}.{name}": v for layer, p in params.items() for name, v in p.items()}
    return reference.Graph(image, flat)


def dense(before, name, units):
    """The connections of a fully connected layer."""
    return [
        [(None, f"{name}.bias", o), *((n, f"{name}.kernel", (o, i)) for i, n in enumerate(before))]
        for o in range(units)
    ]


def softmax_curvature(sums):
    shares = np.exp(sums) / np.exp(sums).sum()
    return shares * (1 - shares)


def by_connection(model, params, image):
    """The same network as a graph of single connections."""
    graph = graph_of(params, image)
    before = np.arange(64).reshape(1, 8, 8)

    def windows(before, name, size, table):
        _, h, w = before.shape
        units = [
            [(None, f"{name}.bias", o)]
            + [
                (before[i, r + y, c + x], f"{name}.kernel", (o, (i * size + y) * size + x))
                for i in table[o]
                for y in range(size)
                for x in range(size)
            ]
            for o in range(len(table))
            for r in range(h - size + 1)
            for c in range(w - size + 1)
        ]
        return graph.layer(units).reshape(len(table), h - size + 1, w - size + 1)

    c1 = windows(before, "c1", 3, [[0]] * 3)
    places = [(m, r, c) for m in range(3) for r in range(3) for c in range(3)]
    blocks = [[c1[m, 2 * r + y, 2 * c + x] for y in (0, 1) for x in (0, 1)] for m, r, c in places]
    if model.pooling == "max":  # the largest epochs on as it is
        blocks = [[max(block, key=lambda n: graph.x[n])] for block in blocks]
    weight = "quarter" if model.pooling == "average" else "one"
    graph.params["quarter"] = np.array([0.25])
    s2 = graph.layer([[(n, weight, 0) for n in block] for block in blocks], activated=False)
    if model.pooling == "subsampling":
        weighed = zip(places, s2, strict=True)
        s2 = graph.layer(
            [[(None, "s2.bias", m), (n, "s2.coefficient", m)] for (m, _, _), n in weighed]
        )
    c3 = windows(s2.reshape(3, 3, 3), "c3", 2, TABLE)
    f4 = windows(c3, "f4", 2, [[0, 1, 2]] * 4).ravel()
    if model.head == "rbf":
        return graph.curvature(f4)
    output = graph.layer(dense(f4, "output", 3), activated=model.head == "states")
    if model.head == "states":
        return graph.curvature(output)
    return graph.curvature(output, softmax_curvature(np.array([graph.x[n] for n in output])))


def equals_brute_force(scores, params, images, loss, by_connection):
    """`scores` maps the parameters to scores; `by_connection` an image to the curvature for it."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), jnp.float32), params)
    labels = jnp.arange(len(images)) % 3
    at_scores = partial(losses.curvature_at_scores, loss, labels=labels)
    ours = jax.jit(lambda params: curvature.diagonal(scores, params, at_scores))(params)
    theirs = [by_connection(params, image) for image in images]
    for layer, leaves in ours.items():
        for name, h in leaves.items():
            expected = np.mean([each[f"{layer}.{name}"] for each in theirs], axis=0)
            assert (expected > 0).any()
            np.testing.assert_allclose(h, expected, rtol=1e-5, err_msg=f"{layer}.{name}")


@pytest.mark.parametrize(
    "model, loss",
    [
        (Small(), ML()),
        (Small("average"), ML()),
        (Small("max"), ML()),
        (Small(head="linear"), CrossEntropy()),
        (Small("average", "states"), SquaredError()),
    ],
    ids=["the paper's", "averages", "maxima", "softmax", "activated sums"],
)
def test_equals_brute_force_connection_by_connection(model, loss):
    images = np.random.default_rng(1).normal(size=(5, 8, 8)).astype(np.float32)
    params = model.init(jax.random.key(0), images)["params"]
    equals_brute_force(
        lambda p: apply(model, p, images), params, images, loss, partial(by_connection, model)
    )


def test_equals_brute_force_where_dropout_makes_all_inputs_smaller():
    """Of Nielsen's network as it is measured, without chance."""
    model = Nielsen("scaled-tanh", hidden=(4,), dropout=0.75)
    images = np.random.default_rng(1).normal(size=(5, 3, 3)).astype(np.float32)

    def by_connection(params, image):
        graph = graph_of(params, image)
        graph.params["kept"] = np.array([0.25])

        def kept(units):
            return graph.layer([[(n, "kept", 0)] for n in units], activated=False)

        hidden = graph.layer(dense(kept(range(9)), "h1", 4))
        output = graph.layer(dense(kept(hidden), "output", 10), activated=False)
        return graph.curvature(output, softmax_curvature(np.array([graph.x[n] for n in output])))

    params = model.init(jax.random.key(0), images)["params"]
    equals_brute_force(
        lambda p: apply(model, p, images)[0], params, images, CrossEntropy(), by_connection
    )


def test_gaussian_heads_are_refused(digits):
    images = normalize(jnp.asarray(digits[0][:2]))
    for head in ("gaussian", "log-gaussian"):
        model = LeNet5(head=head)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        params = jax.tree.map(lambda a: jnp.zeros(a.shape), shapes)
        with pytest.raises(ValueError, match="no curvature for Gaussian heads"):
            curvature.diagonal(lambda p, m=model: apply(m, p, images)[0], params, jnp.ones_like)
        with pytest.raises(UserError, match=f"SDLM does not go with --model.head {head}"):
            Experiment(name="x", model=LeNet5(head=head), loss=CrossEntropy())


def test_is_the_true_hessian_diagonal_for_one_linear_layer():
    """No activation, eq. 8: nothing is neglected, and adaptive codes are exact as well."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Convolution(4, size=1, name="f")(x.T[:, None, None])
            return RBF(True, CODES, name="output")(x)[:, 0, 0].T

    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        x, labels = jnp.asarray(rng.normal(size=(6, 5))), jnp.array([0, 1, 2, 0, 1, 2])
        params = Linear().init(jax.random.key(0), x)["params"]
        params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
        flat, unflatten = ravel_pytree(params)

        def loss(flat):
            scores = apply(Linear(), unflatten(flat), x)
            return losses.maximum_likelihood(scores, labels).mean()

        hessian = jnp.diag(jax.jacrev(jax.jacrev(loss))(flat))
        ours = curvature.diagonal(
            lambda p: apply(Linear(), p, x),
            params,
            lambda scores: losses.curvature_at_scores(ML(), scores, labels),
        )
        np.testing.assert_allclose(ravel_pytree(ours)[0], hessian, rtol=1e-12)


def test_softmax_curvature_is_the_true_hessian_diagonal_of_the_biases():
    rng = np.random.default_rng(2)
    scores, labels = jnp.asarray(rng.normal(size=(7, 10)), jnp.float32), jnp.arange(7)
    ours = losses.curvature_at_scores(CrossEntropy(), scores, labels)
    for n in range(7):
        hessian = jax.hessian(lambda s, n=n: losses.cross_entropy(s[None], labels[n : n + 1])[0])
        np.testing.assert_allclose(ours[n], jnp.diag(hessian(scores[n])), rtol=1e-5)


def test_ordinary_gradients_are_untouched_afterwards():
    images = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    params = Small().init(jax.random.key(0), images)["params"]

    def total(p):
        return apply(Small(), p, images).sum()

    before = jax.grad(total)(params)
    curvature.diagonal(lambda p: apply(Small(), p, images), params, jnp.ones_like)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), before, jax.grad(total)(params)))


def test_where_no_connection_is_there_is_no_curvature(digits):
    images, labels = jnp.asarray(digits[0][:20]), jnp.asarray(digits[1][:20])
    recipe = step.recipe(Experiment(name="test"), 20, replicas.mesh(jax.devices()[:1]))
    state = step.initial_state(recipe, np.zeros(1, np.uint32))
    h = step.begin_epoch(recipe, state, 1, images, labels).curvature["c3"]["kernel"][0]
    inside = Convolution(16, table=TABLE_I).mask(6) == 1
    assert (np.asarray(h)[~inside] == 0).all() and (np.asarray(h)[inside] > 0).all()


def test_sdlm_steps_by_eta_over_mu_plus_h():
    sdlm = SDLM(mu=0.5, learning_rates=(0.1, 0.01))
    optimizer = optimizers.of(sdlm, epochs=3, steps_per_epoch=2)
    params = {"w": jnp.array([1.0, 1.0])}
    state = optimizer.init(params)
    gradients, h = {"w": jnp.array([2.0, -3.0])}, {"w": jnp.array([0.0, 1.5])}
    taken = []
    for _ in range(5):
        updates, state = optimizer.update(gradients, state, params, curvature=h)
        taken.append(np.concatenate(jax.tree.leaves(updates)))
    one = np.array([-0.1 * 2 / 0.5, 0.1 * 3 / 2])
    np.testing.assert_allclose(taken, [one, one, one / 10, one / 10, one / 10], rtol=1e-6)
    with pytest.raises(TypeError, match="curvature"):
        optimizer.update(gradients, state, params)
    with pytest.raises(ValueError, match="-1"):
        optimizers.scale_by_sdlm(-1)


def test_sdlm_composes_with_optax_and_minimises_a_bowl():
    """With h the curvature of a quadratic, mu = 0 in effect and eta = 1, one step is enough."""
    optimizer = optax.chain(optax.clip(1e6), optimizers.scale_by_sdlm(1e-9), optax.scale(-1.0))
    h = {"w": jnp.array([0.1, 3.0, 50.0])}
    params = {"w": jnp.array([4.0, -2.0, 1.0])}
    gradients = jax.tree.map(lambda h, w: h * w, h, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, curvature=h)
    np.testing.assert_allclose(params["w"] + jax.tree.leaves(updates)[0], 0, atol=1e-6)


def test_curvature_never_falls_below_the_previous(digits):
    images, labels = jnp.asarray(digits[0][:100]), jnp.asarray(digits[1][:100])
    for floor in (True, False):
        sdlm = SDLM(samples=50, never_below_previous=floor)
        experiment = Experiment(name="test", optimizer=sdlm)
        recipe = step.recipe(experiment, 100, replicas.mesh(jax.devices()[:1]))
        state = step.initial_state(recipe, np.zeros(1, np.uint32))
        high = jax.tree.map(lambda h: h + 1.0, state.curvature)
        after = step.begin_epoch(recipe, state._replace(curvature=high), 2, images, labels)
        lowest = min(float(leaf.min()) for leaf in jax.tree.leaves(after.curvature))
        assert (lowest >= 1.0) == floor
