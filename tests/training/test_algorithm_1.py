"""A training step against DDPM Algorithm 1, written out in float64 for a network of two parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import parameterization, schedules, timesteps, variance, weighting
from diffusion.core.forward_process import ve, vp
from diffusion.core.objective import Objective
from diffusion.core.reverse_process import Diffusion
from diffusion.data.augmentation import flipped, unchanged
from diffusion.training.optimizer import adam
from diffusion.training.state import create, step_keys
from diffusion.training.step import Task, Update, loss, train_step
from tests.support import reference

T, SHAPE, LR = 7, (6, 4, 2, 1), 0.125
BETA = reference.linear(T, 0.3, 0.9)
PARAMS = {"slope": jnp.float32(0.3), "drift": jnp.float32(-0.05)}
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE)


def network(params, x_t, time, labels, condition, key):  # noqa: ARG001
    """slope x_t + drift (t - 1)."""
    return params["slope"] * x_t + params["drift"] * time[:, None, None, None]


def task(flip: bool) -> Task:
    diffusion = Diffusion(vp(schedules.linear(T, BETA[0], BETA[-1])), parameterization.eps, variance.fixed_large)
    return Task(
        diffusion, Objective(weighting.native, vlb=0.0), timesteps.uniform(T), network, (unchanged, flipped)[flip]
    )


def state(flip: bool):
    return create(PARAMS, adam(LR), task(flip).timesteps, jax.random.key(5))._replace(step=jnp.int32(3))


def algorithm_1(flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each image, ||eps - eps_theta(sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t)||^2 as a mean
    over dimensions, and the gradient of their mean. The numbers are those of the step's named keys."""
    keys = step_keys(jax.random.key(5), jnp.int32(3))
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)
    t = np.asarray(jax.random.randint(keys.timesteps, SHAPE[:1], 1, T + 1))
    eps = np.float64(jax.random.normal(keys.noise, SHAPE))
    x_0 = PIXELS / 127.5 - 1
    if flip:
        mirrored = np.asarray(jax.random.bernoulli(keys.augment, 0.5, (SHAPE[0], 1, 1, 1)))
        assert 0 < mirrored.sum() < SHAPE[0]
        x_0 = np.where(mirrored, x_0[:, :, ::-1], x_0)
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.array(BETA))])[t].reshape(-1, 1, 1, 1)
    x_t = np.sqrt(alpha_bar) * x_0 + np.sqrt(1 - alpha_bar) * eps
    time = np.broadcast_to((t - 1).reshape(-1, 1, 1, 1), SHAPE)
    error = float(PARAMS["slope"]) * x_t + float(PARAMS["drift"]) * time - eps
    return (error**2).mean(axis=(1, 2, 3)), np.array([2 * (error * time).mean(), 2 * (error * x_t).mean()])


@pytest.mark.parametrize("flip", [False, True])
def test_a_step_is_that_of_algorithm_1(flip):
    losses, slopes = algorithm_1(flip)
    before, pixels, labels = state(flip), jnp.asarray(PIXELS, jnp.uint8), jnp.zeros(SHAPE[0], jnp.int32)
    keys = step_keys(before.key, before.step)
    batch = task(flip).gradient(PARAMS, before.timesteps, keys, pixels, labels)
    np.testing.assert_allclose(batch.loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(batch.grads), slopes, rtol=1e-4)
    after, metrics = jax.jit(lambda s: train_step(task(flip), Update(adam(LR), 0.5), s, pixels, labels))(before)
    assert float(metrics["loss"][0]) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(metrics["grad_norm"][0]) == pytest.approx(np.linalg.norm(slopes), rel=1e-4)
    # the first step of Adam has the length of the learning rate, against the sign of the gradient
    moved = np.array(jax.tree.leaves(after.params)) - np.array(jax.tree.leaves(PARAMS))
    np.testing.assert_allclose(moved, -LR * np.sign(slopes), rtol=1e-5)
    assert int(after.step) == 4


def test_the_network_sees_images_of_unit_variance():
    """A variance-exploding x_t = x_0 + sigma eps is divided by sqrt(1 + sigma^2) before the network sees it."""
    diffusion = Diffusion(ve(schedules.geometric(T, 0.1, 5.0)), parameterization.eps, variance.fixed_large)
    identity = task(flip=False)._replace(diffusion=diffusion, apply=lambda params, x, time, labels, condition, key: x)  # noqa: ARG005
    x_0, eps = np.random.default_rng(1).normal(size=(2, T, 4, 2, 1))
    t, labels = jnp.arange(1, T + 1), jnp.zeros(T, jnp.int32)
    terms = loss(identity, {}, jax.random.key(0), jnp.float32(x_0), labels, None, t, jnp.float32(eps))
    sigma = np.geomspace(0.1, 5.0, T)[:, None, None, None]
    expected = ((eps - (x_0 + sigma * eps) / np.sqrt(1 + sigma**2)) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(terms.mse, expected, rtol=1e-4)


def test_errors_are_counted_by_quartile_of_t():
    """Of t = 1..6 of 7, (t - 1) / 7 lies in the quarters 1, 1, 2, 2, 3 and 3."""

    def in_order(key, state, n):  # noqa: ARG001
        return jnp.arange(1, n + 1), jnp.ones(n)

    chosen = task(flip=False)._replace(timesteps=timesteps.uniform(T)._replace(sample=in_order))
    keys, pixels = step_keys(jax.random.key(5), jnp.int32(3)), jnp.asarray(PIXELS, jnp.uint8)
    batch = chosen.gradient(PARAMS, (), keys, pixels, jnp.zeros(6, jnp.int32))
    assert [float(batch.metrics[f"mse_t_quartile_{q}"][1]) for q in (1, 2, 3, 4)] == [2, 2, 2, 0]
