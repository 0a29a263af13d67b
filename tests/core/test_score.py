"""The score of a Prediction: the gradient of the exact log-density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core.forward_process import q_sample
from diffusion.core.score import score
from tests.support.worlds import GAUSSIAN, MIXTURE, cases

T = 20
CASES = {case.name: case for case in cases(T)}
EVERY_T = jnp.arange(1, T + 1)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def noised(world, process, seed: int = 0):
    """One x_t of a world for each t = 1..T."""
    x_0 = world.draw(jax.random.key(seed), T)
    return q_sample(process, x_0, EVERY_T, jax.random.normal(jax.random.key(seed + 1), x_0.shape))


@pytest.mark.parametrize("name", CASES)
def test_score_is_the_gradient_of_the_exact_log_density(name):
    """Against central differences of the mixture's log-density in float64, at every level."""
    process = CASES[name].process
    x_t = noised(MIXTURE, process)
    found = np.float64(score(process, MIXTURE.denoiser(process)(x_t, EVERY_T), EVERY_T))
    for t in range(1, T + 1):
        x, noise = np.float64(x_t[t - 1]), float(process.noise[t])
        step = 1e-4 * noise * np.eye(3)
        up, down = (MIXTURE.log_density(process, x + sign * step, t) for sign in (1, -1))
        # In units of the noise, in which it is of order one; the denoiser works in float32.
        np.testing.assert_allclose(noise * found[t - 1], (up - down) / 2e-4, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_score_of_a_gaussian(name):
    """(mean_t - x_t) / var_t, of which the slope is -1 / var_t."""
    process = CASES[name].process
    x_t = noised(GAUSSIAN, process)
    found = np.float64(score(process, GAUSSIAN.denoiser(process)(x_t, EVERY_T), EVERY_T))
    for t in range(1, T + 1):
        mean, var = GAUSSIAN.marginal(process, t)
        expected = (mean - np.float64(x_t[t - 1])) / var
        np.testing.assert_allclose(found[t - 1], expected, rtol=1e-3, atol=1e-4 / float(process.noise[t]))


def test_conditional_scores_average_to_the_score():
    """E[-eps / noise | x_t] = score(x_t), what denoising score matching rests on: both have the same mean against any
    function of x_t, here x_t itself and its sine."""
    process, t, n = CASES["cosine"].process, 8, 200_000
    x_0 = MIXTURE.draw(jax.random.key(6), n)
    noise = jax.random.normal(jax.random.key(7), x_0.shape)
    ts = jnp.full(n, t)
    x_t = q_sample(process, x_0, ts, noise)
    gap = -noise / process.noise[t] - score(process, MIXTURE.denoiser(process)(x_t, ts), ts)
    for f in (x_t, jnp.sin(3 * x_t)):
        products = np.float64(gap * f)
        assert (np.abs(products.mean(axis=0)) < 4 * products.std(axis=0) / np.sqrt(n)).all()
