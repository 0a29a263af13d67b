"""The elementary diffusion of Nakkiran et al. 2024: x_{u + du} = x_u + N(0, sigma_q^2 du) on [0, 1], nothing scaled.

Its formulas are written here as they stand there, in float64; the package's are those of the constant schedule.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from diffusion.core import parameterization, schedules, variance
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import Noised, q_step, ve
from diffusion.core.parameterization import Prediction, mu
from diffusion.core.reverse_process import from_network, reverse
from diffusion.figures.reverse_step_is_gaussian_figure import (
    EXAMPLE,
    TIME,
    VALUE,
    Mixture,
    conditional,
    kl,
    reverse_conditional,
)
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, MIXTURE, float64

T, SIGMA_Q = 16, 3.0
DT = 1 / T
PROCESS = ve(schedules.constant(T, SIGMA_Q))
EVERY_T = jnp.arange(1, T + 1)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def mu_network(world):
    """A network that gives E[x_{t-1} | x_t] exactly, of the scaled input that networks are given."""

    def network(given: jax.Array, time: jax.Array) -> jax.Array:
        t = time.astype(jnp.int32) + 1
        x_t = given / PROCESS.scale[t][:, None]
        x_0_hat = world.denoiser(PROCESS)(x_t, t).x_0
        return PROCESS.c_x_0[t][:, None] * x_0_hat + PROCESS.c_x_t[t][:, None] * x_t

    return network


def x_0_mean(world, x_t: np.ndarray, t: int) -> np.ndarray:
    """E[x_0 | x_t] in the tutorial's process, float64, for a mixture."""
    var = world.std**2 + SIGMA_Q**2 * t * DT
    error = x_t[:, None] - world.mean
    log_parts = np.log(world.weight) - 0.5 * np.sum(error**2 / var + np.log(var), axis=-1)
    share = np.exp(log_parts - np.logaddexp.reduce(log_parts, axis=1)[:, None])
    return np.sum(share[..., None] * (world.mean + world.std**2 / var * error), axis=1)


def mu_of(world, x_t: np.ndarray, t: int) -> np.ndarray:
    """mu_{t-dt}(x_t) = E[x_{t-dt} | x_t]: E[x_0 | x_t] weighs dt / t (its Claim 2)."""
    return x_t + (x_0_mean(world, x_t, t) - x_t) / t


def test_every_step_adds_the_same_noise():
    p = float64(PROCESS)
    np.testing.assert_array_equal(p.signal, 1)
    np.testing.assert_allclose(p.noise, SIGMA_Q * np.sqrt(np.arange(T + 1) * DT), rtol=1e-6)
    step = q_step(PROCESS, jnp.ones((T, 2)), EVERY_T)
    np.testing.assert_array_equal(step.mean, 1)
    np.testing.assert_allclose(jnp.exp(step.log_var[:, 0]), SIGMA_Q**2 * DT, rtol=1e-5)
    np.testing.assert_allclose(np.exp(p.log_beta[2:]), SIGMA_Q**2 * DT, rtol=1e-5)  # the variance of Algorithm 1


def test_the_regression_of_x_0_gives_that_of_the_step_before():
    """Claim 2: E[x_{t-dt} - x_t | x_t] = dt / t E[x_0 - x_t | x_t]; for targets and not only for their means."""
    x_0, eps = jax.random.normal(jax.random.key(0), (2, T, 3))
    x_t = x_0 + PROCESS.noise[EVERY_T][:, None] * eps
    target = np.float64(mu.target(PROCESS, Noised(x_0, eps, x_t, EVERY_T)) - x_t)
    np.testing.assert_allclose(target, np.float64(x_0 - x_t) / np.arange(1, T + 1)[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mu.gain(PROCESS, EVERY_T), np.arange(1, T + 1), rtol=1e-5)


def test_the_target_regresses_to_the_conditional_mean():
    """The mean of x_{t-1} among draws near one x_t is mu: the path is simulated step by step."""
    n, t, rng = 400_000, 6, np.random.default_rng(0)
    world = Mixture(np.array([0.6, 0.4]), np.array([-1.0, 0.8]), np.array([0.3, 0.2]))
    label = rng.choice(2, n, p=world.weight)
    x = world.mean[label] + world.std[label] * rng.normal(size=n)
    for _ in range(t - 1):
        x = x + SIGMA_Q * np.sqrt(DT) * rng.normal(size=n)
    before, x = x, x + SIGMA_Q * np.sqrt(DT) * rng.normal(size=n)
    one = MIXTURE._replace(weight=world.weight, mean=world.mean[:, None], std=world.std[:, None])
    residual = before - mu_of(one, x[:, None], t)[:, 0]
    for feature in (np.ones(n), x, np.sin(2 * x), x**2):  # a residual of a regression is orthogonal to all functions
        product = residual * feature
        assert abs(product.mean()) < 4 * product.std() / np.sqrt(n)


def test_algorithm_1_is_the_ancestral_sampler():
    """x_{t-dt} = mu_{t-dt}(x_t) + N(0, sigma_q^2 dt); as in DDPM the last step keeps the mean."""
    keys = image_keys(3, jnp.arange(6))
    x_T = prior_sample(keys, PROCESS, (3,))
    np.testing.assert_allclose(x_T, SIGMA_Q * np.float64(normal(fold(keys, 0), x_T)), rtol=1e-5)
    denoise = from_network(PROCESS, mu, mu_network(MIXTURE))
    found = sample(keys, PROCESS, ancestral(PROCESS, variance.fixed_large), denoise, x_T).x_0
    x = np.asarray(x_T, np.float64)
    for t in range(T, 0, -1):
        z = np.float64(normal(fold(keys, t), x_T)) if t > 1 else 0.0
        x = mu_of(MIXTURE, x, t) + SIGMA_Q * np.sqrt(DT) * z
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-3)


def test_the_deterministic_sampler_is_ddim():
    """x_{t-dt} = x_t + lambda (mu - x_t),  lambda = sigma_t / (sigma_{t-dt} + sigma_t),  sigma_t = sigma_q sqrt(t)."""
    keys = image_keys(4, jnp.arange(6))
    x_T = prior_sample(keys, PROCESS, (3,))
    denoise = from_network(PROCESS, mu, mu_network(MIXTURE))
    found = sample(keys, PROCESS, ddim(PROCESS), denoise, x_T).x_0
    x = np.asarray(x_T, np.float64)
    for t in range(T, 0, -1):
        sigma, below = SIGMA_Q * np.sqrt(t * DT), SIGMA_Q * np.sqrt((t - 1) * DT)
        x = x + sigma / (below + sigma) * (mu_of(MIXTURE, x, t) - x)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-3)


def test_the_deterministic_sampler_transports_the_marginals():
    """Of a Gaussian world: the factor by which x_T is shrunk tends to that of the exact map, std_0 / std_T."""
    errors = []
    for n in (25, 100, 400):
        process = ve(schedules.constant(n, SIGMA_Q))
        sigma = float64(process).noise

        def step(t: int, sigma: np.ndarray = sigma) -> tuple[float, float, float]:
            return 1 - sigma[t - 1] / sigma[t], sigma[t - 1] / sigma[t], 0.0

        factor = np.sqrt(GAUSSIAN.chain_law(process, step)[1]) / SIGMA_Q
        errors.append(np.abs(factor * np.sqrt(GAUSSIAN.std**2 + SIGMA_Q**2) / GAUSSIAN.std - 1))
    rates = np.log2(np.array(errors[:-1]) / errors[1:]) / 2  # order of the method; the first steps are as long as 0.2
    assert (rates > 0.25).all() and (rates[-1] > [0.5, 0.75, 0.75]).all() and errors[-1][2] < 0.01, errors


# ------------------------------------------------------------------------------------------------- Fact 1 and Claim 1


def test_the_reverse_mean_is_a_step_along_the_score():
    """E[x_{t-dt} | x_t = z] = z + sigma_q^2 dt grad log p_t(z), exactly; so says the package's reverse step."""
    x_t = jax.random.normal(jax.random.key(1), (T, 3))
    prediction = MIXTURE.denoiser(PROCESS)(x_t, EVERY_T)
    mean = reverse(PROCESS, variance.fixed_large, prediction, x_t, EVERY_T).mean
    z, h = np.float64(x_t), 1e-5
    for t in range(1, T + 1):
        one = z[t - 1 : t]
        ends = [MIXTURE.log_density(PROCESS, one + sign * h * np.eye(3), t) for sign in (1, -1)]
        step = SIGMA_Q**2 * DT * (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(np.float64(mean[t - 1]), one[0] + step, rtol=1e-4, atol=1e-4)


def second_derivative(world: Mixture, z: float, u: float, h: float = 1e-5) -> float:
    return (world.score(z + h, u) - world.score(z - h, u)) / (2 * h)


@pytest.mark.parametrize("z", [-1.0, -0.3, VALUE, 0.8])
def test_the_conditional_becomes_gaussian_at_second_order(z):
    """KL to N(z + du score, du) falls as du^2, to (du d2 log p / dz2)^2 / 4: Claim 1 with its constant."""
    steps = TIME * 0.5 ** np.arange(4, 12)
    found = np.array([kl(*conditional(EXAMPLE, z, TIME, du)) for du in steps])
    rates = np.log2(found[:-1] / found[1:])
    assert abs(rates[-1] - 2) < 0.02 and (np.abs(np.diff(np.abs(rates - 2))) < 0.5).all(), rates
    assert found[-1] == pytest.approx((steps[-1] * second_derivative(EXAMPLE, z, TIME)) ** 2 / 4, rel=0.02)


@pytest.mark.parametrize("du", [0.25, 0.1, 0.001])
def test_the_conditional_is_that_of_bayes(du):
    """Against scipy's quadrature of the joint density, and Tweedie's formulas for its mean and variance."""
    s, log_density = conditional(EXAMPLE, VALUE, TIME, du)

    def density(x: float, u: float) -> float:
        var = EXAMPLE.std**2 + u
        return float(np.sum(EXAMPLE.weight * np.exp(-((x - EXAMPLE.mean) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)))

    def joint(x: float, power: int) -> float:
        return x**power * density(x, TIME - du) * np.exp(-((VALUE - x) ** 2) / (2 * du)) / np.sqrt(2 * np.pi * du)

    near = (VALUE - 8 * np.sqrt(du), VALUE + 8 * np.sqrt(du))
    total, first, second = (
        integrate.quad(joint, *near, args=(power,), epsabs=1e-13, limit=200, points=[-0.6, 0.7, VALUE][:3])[0]
        if du > 0.05
        else integrate.quad(joint, *near, args=(power,), epsabs=1e-13, limit=200)[0]
        for power in (0, 1, 2)
    )
    assert total == pytest.approx(density(VALUE, TIME), rel=1e-7)  # Chapman and Kolmogorov
    mean, var = first / total, second / total - (first / total) ** 2
    assert mean == pytest.approx(VALUE + du * EXAMPLE.score(VALUE, TIME), abs=1e-7)  # exact at every du
    assert var == pytest.approx(du + du**2 * second_derivative(EXAMPLE, VALUE, TIME), rel=1e-4)
    weight = np.exp(log_density) * (s[1] - s[0])
    assert (weight @ s, weight @ s**2) == pytest.approx((0.0, var / du), abs=1e-4)
    x = VALUE + du * EXAMPLE.score(VALUE, TIME) + np.sqrt(du) * s[10_500]
    assert np.exp(log_density[10_500]) == pytest.approx(joint(x, 0) / density(VALUE, TIME) * np.sqrt(du), rel=1e-9)


def test_the_figure_draws_both():
    left, right = reverse_conditional(EXAMPLE, VALUE, TIME, (0.2, 0.05), (0.1, 0.05, 0.025)).axes
    curves = {line.get_label(): line.get_xydata() for line in left.get_lines() + right.get_lines()}
    assert set(curves) == {"$du = 0.2$", "$du = 0.05$", "Gaussian", "from the Gaussian", "slope 2"}
    expected = [kl(*conditional(EXAMPLE, VALUE, TIME, du)) for du in (0.1, 0.05, 0.025)]
    np.testing.assert_allclose(curves["from the Gaussian"], np.stack([(0.1, 0.05, 0.025), expected], axis=1))
    assert left.get_xlabel() and left.get_ylabel() and "KL" in right.get_ylabel()


# ------------------------------------------------------------------------------------------------- with a wrong network


def test_mu_is_read_back_whatever_the_network_says():
    """x_0_hat = t mu - (t - 1) x_t, so that the reverse mean is the network's output itself."""
    out, x_t = jax.random.normal(jax.random.key(2), (2, T, 3))
    denoise = from_network(PROCESS, parameterization.mu, lambda x, time: out)  # noqa: ARG005
    prediction: Prediction = denoise(x_t, EVERY_T)
    mean = reverse(PROCESS, variance.fixed_large, prediction, x_t, EVERY_T).mean
    np.testing.assert_allclose(mean, out, rtol=1e-4, atol=1e-4)
    t = np.arange(1, T + 1)[:, None]
    np.testing.assert_allclose(prediction.x_0, t * np.float64(out) - (t - 1) * np.float64(x_t), rtol=1e-4, atol=1e-4)
