"""The decoder's probabilities of 256 bins, against SciPy and an independent statement of the published formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion.core import decoder
from diffusion.core.gaussian import Gaussian
from tests.support import reference

GRID = np.arange(256) / 127.5 - 1
discretized_log_prob = jax.jit(decoder.discretized_log_prob)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def f32(*values) -> list[jax.Array]:
    return [jnp.asarray(v, jnp.float32) for v in values]


def bins(mean: float, log_var: float) -> np.ndarray:
    g = Gaussian(jnp.full(256, mean, jnp.float32), jnp.full(256, log_var, jnp.float32))
    return np.float64(jnp.exp(discretized_log_prob(g, f32(GRID)[0])))


@pytest.mark.parametrize("mean", [-1.2, -1.0, -0.3, 0.0, 0.5019608, 0.99, 1.5])
@pytest.mark.parametrize("std", [0.002, 0.0073846, 0.1, 1.0, 5.0])
def test_the_256_bins_sum_to_1(mean, std):
    """They telescope: the upper edge of a bin is the lower edge of the next, and the ends are open.

    In float32 the shared edge is computed twice, as x + 1/255 and x - 1/255: each is off by 1.2e-7 where the density is
    at most 0.4 / std. Floors add 256e-12.
    """
    assert bins(mean, 2 * math.log(std)).sum() == pytest.approx(
        1.0, abs=2e-6 + 2 * 1.2e-7 * 0.4 / std * min(256, 1 + 500 * std)
    )


@pytest.mark.parametrize("std", [0.0073846, 0.05, 1.0])
def test_bins_are_those_of_the_normal_distribution(std):
    """The tanh form is within 1.8e-4 of the normal distribution function, so a bin within twice that."""
    edges = np.concatenate([[-np.inf], (GRID[1:] + GRID[:-1]) / 2, [np.inf]])
    np.testing.assert_allclose(bins(0.1, 2 * math.log(std)), np.diff(stats.norm.cdf(edges, 0.1, std)), atol=3.6e-4)


def test_bins_equal_the_published_formula():
    """Into the tails, down to the floor: float32 gives what the formula says, in float64."""
    rng = np.random.default_rng(1)
    x = rng.choice(GRID, 2000)
    log_var = rng.uniform(-10, 2, 2000)
    z = rng.uniform(-7.5, 7.5, 2000)
    mean = np.float64(np.float32(x - z * np.exp(log_var / 2)))
    expected = np.array([reference.discretized_log_prob(*row) for row in zip(x, mean, log_var, strict=True)])
    found = np.float64(discretized_log_prob(Gaussian(*f32(mean, log_var)), f32(x)[0]))
    # z is off by an ulp of x - mean times 1 / std; the cubic makes d log mass / d z up to |z|^3 / 2 ...
    slope = (2 + 0.5 * np.abs(z) ** 2) * (1 + np.abs(z))
    in_z = 2.0**-23 * (np.abs(z) + (1 + np.abs(mean)) * np.exp(-log_var / 2))
    # ... and the bin's mass is a difference of CDFs of which the larger, at most the tail beyond |z|, is good to 8 ulp
    in_mass = 8 * 2.0**-23 * stats.norm.cdf(-np.abs(z) + np.exp(-log_var / 2) / 255) / np.exp(expected)
    assert (np.abs(found - expected) <= 1e-6 + slope * in_z + 2 * in_mass).all()
    floored = expected == math.log(1e-12)
    assert 20 < floored.sum() < 400
    assert ((expected < math.log(6e-8)) & ~floored).sum() > 100  # masses that 1 + tanh could not resolve


def test_the_ends_are_open():
    g = Gaussian(*f32(0.0, 0.0))
    for x, sign in ((-1.0, -1), (1.0, 1)):
        tail = stats.norm.sf(1 - 1 / 255)
        found = float(jnp.exp(discretized_log_prob(g, f32(x)[0])))
        assert found == pytest.approx(tail, abs=2e-4), sign
    far = Gaussian(*f32([-3.0, 3.0], [-4.0, -4.0]))
    np.testing.assert_allclose(discretized_log_prob(far, f32([-1.0, 1.0])[0]), 0.0, atol=1e-6)


@pytest.mark.parametrize(("x", "opens"), [(0.9989, False), (0.9991, True)])
def test_the_published_thresholds(x, opens):
    """|x| > 0.999 is an end; 254 / 127.5 - 1 = 0.992 is not."""
    for sign in (-1, 1):
        g = Gaussian(*f32([sign * 1.2], [math.log(0.01)]))
        closed = reference.discretized_log_prob(0.9989, 1.2, math.log(0.01))
        found = float(discretized_log_prob(g, f32([sign * x])[0])[0])
        assert (found > closed + 0.5) == opens


def test_the_floor():
    """A bin without mass counts 1e-12: 39.9 bits."""
    g = Gaussian(*f32([0.9, -0.9, 50.0], [-10.0, -10.0, -10.0]))
    found = discretized_log_prob(g, f32([-0.9, 0.9, 0.0])[0])
    np.testing.assert_allclose(found, math.log(1e-12), rtol=1e-6)
    assert float(found[0]) / math.log(2) == pytest.approx(-39.863, abs=1e-3)


def test_gradients_are_finite_at_the_extremes():
    """All kinds of bins, means far outside the data, variances from e^-46 (1e-20, the smallest published) to e^20."""
    x, mean, log_var = (
        g.reshape(-1)
        for g in np.meshgrid(GRID[[0, 1, 127, 254, 255]], [-2e4, -1.0, 0.0, 0.3, 1.0, 2e4], [-46.0, -30, -10, 0, 20])
    )

    def total(mean, log_var):
        return discretized_log_prob(Gaussian(mean, log_var), f32(x)[0]).sum()

    value, slopes = jax.value_and_grad(total, argnums=(0, 1))(*f32(mean, log_var))
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert all((slope != 0).any() for slope in slopes)


def test_gradients_are_those_of_the_published_formula():
    x, mean, log_var = GRID[[100, 100, 0, 255]], np.array([-0.21, -0.23, -0.98, 0.97]), np.full(4, -6.0)
    slope = jax.grad(lambda m: discretized_log_prob(Gaussian(m, f32(log_var)[0]), f32(x)[0]).sum())(f32(mean)[0])
    h = 1e-5
    for i in range(4):
        up, down = (reference.discretized_log_prob(x[i], mean[i] + s * h, log_var[i]) for s in (1, -1))
        assert float(slope[i]) == pytest.approx((up - down) / (2 * h), rel=2e-4)
