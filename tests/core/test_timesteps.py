"""How training draws t."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion.core import timesteps


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


N = 20_000
KINDS = {"uniform": timesteps.uniform, "antithetic": timesteps.antithetic}


@partial(jax.jit, static_argnums=(0, 1, 3))
def draw(kind, T, seed, n):
    some = kind(T)
    return some.sample(jax.random.key(seed), some.init(), n)


@pytest.mark.parametrize("name", KINDS)
def test_t_is_uniform_on_1_to_T(name):
    t, weight = draw(KINDS[name], 10, 0, N)
    assert t.dtype == jnp.int32
    np.testing.assert_array_equal(weight, np.ones(N, np.float32))
    for part in (
        np.asarray(t)[0::2],
        np.asarray(t)[1::2],
    ):  # elements of a pair depend on each other, the halves do not
        counts = np.bincount(part, minlength=11)
        assert len(counts) == 11
        assert counts[0] == 0
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_uniform_draws_are_independent():
    t = np.float64(draw(KINDS["uniform"], 1000, 0, N)[0])
    assert abs(np.corrcoef(t[0::2], t[1::2])[0, 1]) < 4 / np.sqrt(N / 2)


@pytest.mark.parametrize("T", [1, 1000])
def test_antithetic_draws_come_in_pairs(T):
    t = np.asarray(draw(KINDS["antithetic"], T, 0, N)[0])
    np.testing.assert_array_equal(t[0::2] + t[1::2], T + 1)
    assert (t.min(), t.max()) == (1, T)


@pytest.mark.parametrize("name", KINDS)
def test_an_odd_number(name):
    t, weight = draw(KINDS[name], 5, 2, 7)
    assert t.shape == weight.shape == (7,)
    if name == "antithetic":
        np.testing.assert_array_equal(t[0:6:2] + t[1:6:2], 6)


@pytest.mark.parametrize("name", KINDS)
def test_pure_and_without_state(name):
    some = KINDS[name](100)
    t, weight = draw(KINDS[name], 100, 3, 7)
    np.testing.assert_array_equal(t, draw(KINDS[name], 100, 3, 7)[0])
    assert (np.asarray(t) != np.asarray(draw(KINDS[name], 100, 4, 7)[0])).any()
    assert some.update(some.init(), t, weight) == some.init()


def test_antithetic_pairs_cancel_what_is_linear_in_t():
    t = np.float64(draw(KINDS["antithetic"], 1000, 0, N)[0])
    assert t.mean() == 500.5
