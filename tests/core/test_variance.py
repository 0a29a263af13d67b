"""Variances of the reverse step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import schedules, variance
from diffusion.core.forward_process import vp
from tests.support import reference
from tests.support.worlds import cases

T = 20
CASES = {case.name: case for case in cases(T)}


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.mark.parametrize("name", CASES)
def test_fixed(name):
    _, process, chain, _ = CASES[name]
    t = jnp.arange(1, T + 1)
    expected = reference.log_variances(chain)
    np.testing.assert_allclose(variance.fixed_large(process, t, None), expected.large[1:], rtol=1e-6)
    np.testing.assert_allclose(variance.fixed_small(process, t, None), expected.small[1:], rtol=1e-6)


def test_the_first_step_of_the_published_schedule():
    """Both fixed variances take beta_tilde[2] at t = 1: a decoder of std 0.0073846, 0.94 of 255 units."""
    process = vp(schedules.linear(1000))
    t = jnp.array([1])
    for fixed in (variance.fixed_small, variance.fixed_large):
        std = math.exp(0.5 * float(fixed(process, t, None)[0]))
        assert std == pytest.approx(0.0073846, rel=1e-5)
        assert std * 127.5 == pytest.approx(0.9415, abs=1e-4)


def test_learned_is_the_raw_output():
    process = CASES["linear"].process
    raw = jax.random.normal(jax.random.key(0), (T, 2, 3))
    np.testing.assert_array_equal(variance.learned(process, jnp.arange(1, T + 1), raw), raw)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("raw", [-1.0, 0.0, 1.0, 3.0, -5.0])
def test_learned_range_interpolates_and_extrapolates(name, raw):
    """-1 is the small end, +1 the large one, 0 their geometric mean; the raw output is not squashed."""
    _, process, chain, _ = CASES[name]
    t = jnp.arange(1, T + 1)
    found = variance.learned_range(process, t, jnp.full((T, 2, 1), raw))
    expected = np.array([reference.log_variances(chain).between(raw, s) for s in range(1, T + 1)])
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], (T, 2, 1)), rtol=1e-6, atol=2e-6)
    if abs(raw) == 1:
        np.testing.assert_array_equal(found[:, 0, 0], {-1.0: process.log_beta_tilde, 1.0: process.log_beta}[raw][1:])


def test_learned_range_at_the_first_step_of_the_published_schedule():
    """From beta_tilde_2, which stands in for beta_tilde_1 = 0, to beta_1; the raw output has a gradient there."""
    process, t = vp(schedules.linear(1000)), jnp.array([1])
    found = [jnp.exp(variance.learned_range(process, t, jnp.full((1, 1), raw))) for raw in (-1.0, 0.0, 1.0)]
    np.testing.assert_allclose(np.ravel(found), [5.453e-5, 7.38e-5, 1.0e-4], rtol=1e-3)
    slope = jax.grad(lambda raw: variance.learned_range(process, t, raw).sum())(jnp.zeros((1, 1)))
    assert float(slope[0, 0]) == pytest.approx(math.log(1.0e-4 / 5.453e-5) / 2, rel=1e-3)


@pytest.mark.parametrize("learned", [variance.learned, variance.learned_range])
def test_a_learned_variance_needs_channels(learned):
    with pytest.raises(ValueError, match="twice as many output channels"):
        learned(CASES["linear"].process, jnp.array([1]), None)


def test_a_respaced_chain_recomputes_the_bounds():
    alpha_bar = schedules.linear(1000)
    ts = np.array([0, 250, 500, 750, 1000])
    process = vp(alpha_bar[ts], base_t=ts)
    beta = 1 - alpha_bar[ts[1:]] / alpha_bar[ts[:-1]]
    found = variance.learned_range(process, jnp.array([2, 3, 4]), jnp.ones((3, 1)))
    np.testing.assert_allclose(found[:, 0], np.log(beta[1:]), rtol=1e-6)
    beta_tilde = beta[1:] * (1 - alpha_bar[ts[1:-1]]) / (1 - alpha_bar[ts[2:]])
    np.testing.assert_allclose(variance.fixed_small(process, jnp.array([2, 3, 4]), None), np.log(beta_tilde), rtol=1e-6)
