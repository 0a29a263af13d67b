"""Divergence, density and samples, against quadrature and SciPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffusion.core import gaussian
from diffusion.core.gaussian import Gaussian
from tests.support import reference

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
