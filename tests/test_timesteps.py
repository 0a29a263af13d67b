"""How training draws t."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion import timesteps


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def draw(kind, T: int, n: int, seed: int = 0):
    some = kind(T)
    return jax.jit(some.sample, static_argnums=2)(jax.random.key(seed), some.init(), n)


@pytest.mark.parametrize("kind", [timesteps.uniform, timesteps.antithetic])
def test_t_is_uniform_on_1_to_T(kind):
    T, n = 10, 20_000
    t, weight = draw(kind, T, n)
    assert t.dtype == jnp.int32
    np.testing.assert_array_equal(weight, np.ones(n, np.float32))
    for part in (t[0::2], t[1::2]):  # the elements of a pair depend on each other, the halves do not
        counts = np.bincount(np.asarray(part), minlength=T + 1)
        assert counts[0] == 0
        assert len(counts) == T + 1
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_uniform_draws_are_independent():
    t = np.float64(draw(timesteps.uniform, 1000, 20_000)[0])
    assert abs(np.corrcoef(t[0::2], t[1::2])[0, 1]) < 4 / np.sqrt(10_000)


@pytest.mark.parametrize("T", [1, 2, 9, 1000])
def test_antithetic_draws_come_in_pairs(T):
    t = np.asarray(draw(timesteps.antithetic, T, 64)[0])
    np.testing.assert_array_equal(t[0::2] + t[1::2], T + 1)
    assert t.min() >= 1
    assert t.max() <= T


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("kind", [timesteps.uniform, timesteps.antithetic])
def test_any_number(kind, n):
    t, weight = draw(kind, 5, n)
    assert t.shape == weight.shape == (n,)
    np.testing.assert_array_equal(weight, 1)


@pytest.mark.parametrize("kind", [timesteps.uniform, timesteps.antithetic])
def test_pure_and_without_state(kind):
    some = kind(100)
    state = some.init()
    t, _ = draw(kind, 100, 16)
    np.testing.assert_array_equal(t, draw(kind, 100, 16)[0])
    assert (np.asarray(t) != np.asarray(draw(kind, 100, 16, seed=1)[0])).any()
    assert some.update(state, t, jnp.ones(16)) == state


def test_antithetic_pairs_cancel_what_is_linear_in_t():
    t = np.float64(draw(timesteps.antithetic, 1000, 100)[0])
    assert t.mean() == 500.5
