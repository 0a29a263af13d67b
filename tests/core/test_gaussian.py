"""Divergence, density and the discretised likelihood, against quadrature and SciPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffusion.core import gaussian
from diffusion.core.gaussian import Gaussian
from tests.support import reference

GRID = np.arange(256) / 127.5 - 1
discretized_log_prob = jax.jit(gaussian.discretized_log_prob)
kl = jax.jit(gaussian.kl)
log_prob = jax.jit(gaussian.log_prob)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def f32(*values) -> list[jax.Array]:
    return [jnp.asarray(v, jnp.float32) for v in values]


def gaussians(mean_1, log_var_1, mean_2, log_var_2) -> tuple[Gaussian, Gaussian]:
    return Gaussian(*f32(mean_1, log_var_1)), Gaussian(*f32(mean_2, log_var_2))


PAIRS = [(0.0, 0.0, 0.0, 0.0), (0.3, -1.0, -0.5, 0.7), (1.0, 2.0, 1.5, -1.0), (-2.0, 0.1, 2.0, 0.1)]


@pytest.mark.parametrize("pair", PAIRS)
def test_kl_is_its_integral(pair):
    mean_1, log_var_1, mean_2, log_var_2 = pair
    one, two = stats.norm(mean_1, math.exp(log_var_1 / 2)), stats.norm(mean_2, math.exp(log_var_2 / 2))
    value, _ = integrate.quad(
        lambda x: one.pdf(x) * (one.logpdf(x) - two.logpdf(x)), -40, 40, points=[mean_1], limit=200
    )
    p, r = gaussians(*pair)
    assert float(kl(p, r)) == pytest.approx(value, rel=1e-5, abs=1e-8)


def test_kl_is_the_mean_of_the_log_ratio():
    p, r = gaussians(0.3, -1.0, -0.5, 0.7)
    x = gaussian.sample(p, jax.random.normal(jax.random.key(0), (100_000,)))
    ratio = np.float64(log_prob(p, x)) - np.float64(log_prob(r, x))
    assert abs(ratio.mean() - float(kl(p, r))) < 4 * ratio.std() / math.sqrt(len(ratio))


def test_kl_is_not_negative_and_zero_only_between_equals():
    mean, log_var = jax.random.normal(jax.random.key(1), (2, 1000))
    p = Gaussian(mean, 5 * log_var)
    np.testing.assert_array_equal(kl(p, p), 0.0)
    near = Gaussian(mean, 5 * log_var * (1 + 1e-5) + 1e-3)
    assert (kl(p, near) > 0).all()
    assert (kl(near, p) > 0).all()


@pytest.mark.parametrize("d", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
def test_small_divergences_keep_their_digits(d):
    """KL of nearly equal variances is d^2 / 4 + O(d^3), below the resolution of 1, as late terms of the bound are."""
    p, r = gaussians(0.0, -d, 0.0, 0.0)
    exact = 0.5 * (math.expm1(-d) + d)
    # expm1(d) - d leaves d^2 / 2 of numbers of size d; expm1 is good to 2 ulp, 2.4e-7 d
    assert float(kl(p, r)) == pytest.approx(exact, rel=1e-6 + 2 * 2.4e-7 / d)
    p, r = gaussians(d, 0.0, 0.0, 0.0)
    assert float(kl(p, r)) == pytest.approx(d * d / 2, rel=1e-6)


def test_kl_of_tiny_variances():
    p, r = gaussians(1e-4, -18.0, 0.0, -17.0)
    assert float(kl(p, r)) == pytest.approx(reference.kl(1e-4, -18.0, 0.0, -17.0), rel=1e-5)


def test_log_prob():
    x, mean, log_var = np.random.default_rng(0).normal(size=(3, 500))
    log_var *= 5
    found = log_prob(Gaussian(*f32(mean, log_var)), f32(x)[0])
    np.testing.assert_allclose(found, stats.norm.logpdf(x, mean, np.exp(log_var / 2)), rtol=2e-5, atol=1e-5)


def test_log_prob_broadcasts_a_shared_variance():
    g = Gaussian(jnp.zeros((4, 2, 3)), jnp.zeros((4, 1, 1)))
    np.testing.assert_allclose(log_prob(g, jnp.ones((4, 2, 3))), stats.norm.logpdf(1.0), rtol=1e-6)


def test_sample():
    x = gaussian.sample(Gaussian(*f32(0.7, math.log(0.25))), jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(x, [0.2, 0.7, 1.7], rtol=1e-6)


def test_sums_and_means_are_per_example():
    x = jnp.arange(24.0).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(gaussian.sum_dims(x), [66.0, 210.0])
    np.testing.assert_array_equal(gaussian.mean_dims(x), [5.5, 17.5])


# The discretised likelihood.


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
