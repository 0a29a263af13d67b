"""The score as a reading of a Prediction: the gradient of the exact log-density, Tweedie's formula, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core.denoiser import interpret
from diffusion.core.parameterization import eps
from diffusion.core.process import q_sample
from diffusion.core.score import from_score, score, tweedie
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


@pytest.mark.parametrize("name", CASES)
def test_a_score_model_is_a_denoiser(name):
    """From a score to the Prediction that eps_hat = -noise score gives, and back to the same score."""
    process = CASES[name].process
    x_t, some = noised(GAUSSIAN, process), jax.random.normal(jax.random.key(5), (T, 3))
    prediction = from_score(process, some, x_t, EVERY_T)
    np.testing.assert_allclose(score(process, prediction, EVERY_T), some, rtol=1e-6)
    by_eps = interpret(process, eps, -process.noise[EVERY_T][:, None] * some, None, x_t, EVERY_T)
    scale = np.maximum(1.0, np.abs(by_eps.x_0).max(axis=1, keepdims=True))
    np.testing.assert_allclose(prediction.x_0 / scale, by_eps.x_0 / scale, atol=2e-6)
    again = q_sample(process, prediction.x_0, EVERY_T, prediction.eps)
    np.testing.assert_allclose(again, x_t, rtol=1e-5, atol=1e-5 * float(jnp.abs(x_t).max()))


def test_tweedie_is_the_posterior_mean():
    process = CASES["geometric"].process
    x_t = noised(MIXTURE, process)
    prediction = MIXTURE.denoiser(process)(x_t, EVERY_T)
    found = tweedie(process, score(process, prediction, EVERY_T), x_t, EVERY_T)
    # x_0_hat is the small difference of x_t and a score of its size
    error = np.abs(np.float64(found) - np.float64(prediction.x_0)) / np.float64(1 + jnp.abs(x_t))
    assert (error < 2e-6).all()


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
