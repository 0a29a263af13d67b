"""Importance-sampled t: the history against a plain re-derivation, unbiased weights, devices, checkpoints."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion.core import timesteps
from diffusion.core.timesteps import History, loss_second_moment, probabilities
from diffusion.distributed import sharding
from diffusion.workdir.checkpoint import Checkpoints

T, H = 7, 4
OURS = loss_second_moment(T, history=H, uniform_share=0.05)
update = jax.jit(OURS.update)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def pushed(state: History, t, loss) -> History:
    return update(state, jnp.asarray(t, jnp.int32), jnp.asarray(loss, jnp.float32))


def warm(rms) -> History:
    """A full history in which every loss of step t is rms[t - 1], but for the sign."""
    losses = np.tile(np.asarray(rms, np.float32)[:, None], (1, H)) * np.array([1, -1, 1, -1], np.float32)
    return History(jnp.asarray(losses), jnp.full(len(rms), H, jnp.int32))


class Plain:
    """The same by Python's own means: a deque for each step, losses pushed one after another."""

    def __init__(self):
        self.rows = [deque(maxlen=H) for _ in range(T)]

    def push(self, t, loss):
        for step, value in zip(t, loss, strict=True):
            if np.isfinite(value):
                self.rows[step - 1].append(value)

    def p(self, share=0.05):
        if any(len(row) < H for row in self.rows):
            return np.full(T, 1 / T)
        root = np.array([np.sqrt(np.mean(np.square(row))) for row in self.rows])
        return root / root.sum() * (1 - share) + share / T


def test_equals_a_plain_derivation_over_random_batches(rng):
    """Batches with many duplicates, some longer than the history, and losses that are not finite."""
    plain, state = Plain(), OURS.init()
    ready = []
    for _ in range(12):
        t = rng.integers(1, T + 1, size=9) if rng.random() < 0.7 else rng.choice([1, 2], size=9)
        loss = np.exp(3 * rng.normal(size=9)).astype(np.float32)
        loss[rng.random(9) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
        plain.push(t, loss)
        state = pushed(state, t, loss)
        np.testing.assert_array_equal(state.counts, [len(row) for row in plain.rows])
        for row, expected in zip(np.asarray(state.losses), plain.rows, strict=True):
            np.testing.assert_array_equal(row, [0.0] * (H - len(expected)) + list(expected))
        np.testing.assert_allclose(probabilities(state, 0.05), plain.p(), rtol=2e-6)
        ready.append(all(len(row) == H for row in plain.rows))
    assert ready[-1] and not ready[0]


def test_the_oldest_loss_leaves_first():
    state = OURS.init()
    for i in range(1, H + 3):
        state = pushed(state, [3], [float(i)])
    np.testing.assert_array_equal(state.losses[2], np.arange(3, H + 3))
    state = pushed(state, [3, 3, 5, 3], [10.0, 11.0, 12.0, 13.0])  # in the order of the batch
    np.testing.assert_array_equal(state.losses[2], [6.0, 10.0, 11.0, 13.0])
    np.testing.assert_array_equal(state.losses[4], [0.0, 0.0, 0.0, 12.0])
    state = pushed(state, [1] * 6, np.arange(6.0))  # more in one batch than a row holds
    np.testing.assert_array_equal(state.losses[0], [2.0, 3.0, 4.0, 5.0])


def test_uniform_with_weight_one_until_every_step_is_full(key):
    state = warm(np.arange(1.0, T + 1))
    short = state._replace(counts=state.counts.at[4].set(H - 1))
    t, weight = OURS.sample(key, short, 20_000)
    np.testing.assert_array_equal(weight, np.ones(20_000, np.float32))
    assert stats.chisquare(np.bincount(t, minlength=T + 1)[1:]).pvalue > 1e-3
    _, weight = OURS.sample(key, pushed(short, [5], [5.0]), 100)
    assert len(np.unique(weight)) > 2
    t, weight = OURS.sample(key, OURS.init(), 100)
    assert (t.dtype, weight.dtype) == (jnp.int32, jnp.float32) and (weight == 1).all()


def test_a_loss_that_is_not_finite_leaves_no_trace(key):
    state = warm(np.arange(1.0, T + 1))
    after = pushed(state, [2, 2, 3], [np.nan, np.inf, -np.inf])
    jax.tree.map(np.testing.assert_array_equal, state, after)
    after = pushed(OURS.init(), [2, 2, 2], [np.nan, 1.0, np.inf])
    assert int(after.counts[1]) == 1 and float(after.losses[1, -1]) == 1.0
    assert np.isfinite(OURS.sample(key, after, 50)[1]).all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_probabilities_are_those_of_eq_18_at_any_scale(scale):
    rms = np.array([1.0, 2.0, 0.0, 4.0, 1.0, 1.0, 7.0])
    p = np.float64(probabilities(warm(scale * rms), 0.05))
    np.testing.assert_allclose(p, 0.95 * rms / rms.sum() + 0.05 / T, rtol=1e-6)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)


def test_losses_of_zero_give_uniform_t(key):
    t, weight = OURS.sample(key, warm(np.zeros(T)), 200)
    np.testing.assert_allclose(weight, 1.0, rtol=1e-6)
    assert set(np.unique(t)) == set(range(1, T + 1))


def test_unbiased_exactly_and_by_simulation(key):
    """sum_t p_t (1 / (T p_t)) f(t) is the mean of f, and draws have the frequencies p."""
    rms, n = np.array([0.1, 3.0, 1.0, 10.0, 0.0, 2.0, 0.5]), 200_000
    f = np.array([5.0, -1.0, 2.0, 30.0, 1.0, 0.0, 4.0])
    state = warm(rms)
    p = np.float64(probabilities(state, 0.05))
    t, weight = (np.asarray(x) for x in OURS.sample(key, state, n))
    assert (t.min(), t.max()) == (1, T)
    per_step = np.array([weight[t == s][0] for s in range(1, T + 1)], np.float64)
    np.testing.assert_array_equal(weight, per_step[t - 1].astype(np.float32))  # a function of t
    np.testing.assert_allclose(np.sum(p * per_step * f), f.mean(), rtol=1e-6)
    assert stats.chisquare(np.bincount(t, minlength=T + 1)[1:], n * p / p.sum()).pvalue > 1e-3
    values = weight.astype(np.float64) * f[t - 1]
    assert abs(values.mean() - f.mean()) < 4 * values.std() / np.sqrt(n)


def test_it_lowers_the_variance_of_the_estimated_sum():
    """With losses proportional to their history, eq. 18's p is the best there is: only the uniform share is lost."""
    f = np.array([0.1, 3.0, 1.0, 10.0, 0.2, 2.0, 0.5])
    p = np.float64(probabilities(warm(f), 0.0))
    variance = np.sum(p * (f / (T * p)) ** 2) - f.mean() ** 2
    assert abs(variance) < 1e-5 < f.var()


def test_published_constants():
    state = timesteps.loss_second_moment(1000).init()
    assert (state.losses.shape, state.losses.dtype) == ((1000, 10), jnp.float32)
    assert (state.counts.shape, state.counts.dtype) == ((1000,), jnp.int32)
    full = History(state.losses.at[0].set(1.0), jnp.full(1000, 10, jnp.int32))
    np.testing.assert_allclose(probabilities(full, 0.001)[jnp.array([0, 1])], [0.999001, 1e-6], rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_devices_do_not_change_draws_or_history(devices, key):
    """Drawn and pushed inside a jitted step whose batch is split over the devices."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    split, whole = sharding.split_axis(mesh), sharding.replicated(mesh)

    def step(state, key, x):
        t, weight = OURS.sample(key, state, x.shape[0])
        t = jax.lax.with_sharding_constraint(t, split)
        loss = weight * x**2 + t.astype(jnp.float32)
        return OURS.update(state, t, loss), (t, weight)

    jitted = jax.jit(step, in_shardings=(whole, whole, split), out_shardings=(whole, whole))
    start = warm(np.arange(1.0, T + 1))
    start = start._replace(counts=start.counts.at[4].set(H - 1))
    state, expected = start, start
    for i in range(6):
        x = jax.random.normal(jax.random.key(i), (16,))
        state, (t, weight) = jitted(state, jax.random.fold_in(key, i), jax.device_put(x, split))
        plain_t, plain_weight = OURS.sample(jax.random.fold_in(key, i), expected, 16)
        loss = plain_weight * x**2 + plain_t.astype(jnp.float32)
        expected = update(expected, plain_t, loss)
        np.testing.assert_array_equal(t, plain_t)
        np.testing.assert_allclose(weight, plain_weight, rtol=1e-6)
    np.testing.assert_array_equal(state.counts, expected.counts)
    np.testing.assert_allclose(state.losses, expected.losses, rtol=1e-6)
    assert int(state.counts.min()) == H


def test_the_state_survives_a_checkpoint(tmp_path, key):
    state = pushed(warm(np.arange(1.0, T + 1)), [1, 2], [8.0, 9.0])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"timesteps": state})
    checkpoints.close()
    again = Checkpoints(tmp_path)
    restored = again.restore(1, {"timesteps": OURS.init()})["timesteps"]
    again.close()
    assert type(restored) is History
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    for a, b in zip(OURS.sample(key, restored, 9), OURS.sample(key, state, 9), strict=True):
        np.testing.assert_array_equal(a, b)
