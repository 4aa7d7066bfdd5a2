"""How much of a kernel is too fine for the steps of its window."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.inspection import drawings, features
from lenet_jax.inspection.sampling import too_fine
from lenet_jax.layers.contract import shown
from lenet_jax.models.alexnet import AlexNet
from lenet_jax.models.lenet import LeNet5


def waves(period, size=64):
    return np.cos(2 * np.pi * np.arange(size) / period)


@pytest.mark.parametrize(
    ("period", "step", "share"), [(16, 4, 0), (4, 4, 1), (4, 2, 0), (2, 2, 1), (8, 4, 0)]
)
def test_a_wave_is_too_fine_if_its_period_is_under_two_steps(period, step, share):
    across = np.broadcast_to(waves(period), (64, 64))
    for kernel in (across, across.T, np.stack([across, 2 * across, 0 * across], axis=2)):
        assert too_fine(kernel[None], step)[0] == pytest.approx(share, abs=1e-12)


def test_powers_of_waves_add_up():
    coarse, fine = (np.broadcast_to(waves(period), (64, 64)) for period in (16, 4))
    np.testing.assert_allclose(too_fine((coarse + 2 * fine)[None], 4), [4 / 5])
    noise = np.random.default_rng(0).normal(size=(200, 11, 11, 3))
    for step in (2, 4):
        assert too_fine(noise, step).mean() == pytest.approx(1 - 1 / step**2, abs=0.03)
    np.testing.assert_array_equal(too_fine(np.zeros((1, 5, 5)), 2), [0])


def by_hand(kernel, step):
    """From the waves themselves, in float64."""
    places, numbers = np.arange(kernel.shape[0]), np.arange(64)
    waves = np.exp(-2j * np.pi * np.outer(numbers, places) / 64)
    power = np.sum([np.abs(waves @ kernel[..., c] @ waves.T) ** 2 for c in range(3)], axis=0)
    fine = np.minimum(numbers, 64 - numbers) / 64 > 1 / (2 * step)
    return (power * (fine[:, None] | fine)).sum() / power.sum()


def test_the_picture_of_kernels_tells_it():
    model = AlexNet(maps=(6, 8, 6, 4, 4), hidden=(9, 7), classes=5)
    shape = 227, 227, 3
    image = shown(model, jnp.zeros((1, *shape), jnp.uint8))
    params = jax.jit(model.init)(jax.random.key(0), image)["params"]
    kernels = np.moveaxis(np.reshape(params["conv1"]["kernel"], (6, 3, 11, 11)), 1, 3)
    share = np.median([by_hand(kernel.astype(float), 4) for kernel in kernels])
    heading = drawings.kernels(model, params, shape)._suptitle.get_text()
    assert f"; {share:.0%} of the power of half of them is too fine for steps of 4" in heading
    lenet = LeNet5()
    params = lenet.init(jax.random.key(0), jnp.zeros((1, 32, 32)))["params"]
    assert "steps" not in drawings.kernels(lenet, params)._suptitle.get_text()


def test_maps_that_nothing_excites_are_counted():
    model = LeNet5(activation="relu", pooling="max")
    params: Any = model.init(jax.random.key(0), jnp.zeros((1, 32, 32)))["params"]
    params["c1"]["bias"] = params["c1"]["bias"].at[jnp.array([1, 4])].set(-1e3)
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    titles = [ax.get_title("left") for ax in features.top_nine(model, params, images).axes]
    states = model.apply({"params": params}, shown(model, images))[1]  # type: ignore[index]
    for title, (name, state) in zip(titles, states.items(), strict=False):
        dead = int((np.asarray(state).max(axis=(0, 2, 3)) <= 0).sum())
        assert (
            title.startswith(f"{name.upper()}: ") and f"({dead} never above 0)" in title or not dead
        )
    assert "C1: 6 maps (2 never above 0)" in titles[0]
