"""The straight flow from data to noise: its tables, its velocity, Euler's method, and the end at which no signal is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import elbo, gaussian, parameterization, schedules, variance, weighting
from diffusion.core.forward_process import Noised, flow, noised, q_sample, q_step, snr
from diffusion.core.objective import Objective, evaluate
from diffusion.core.parameterization import velocity
from diffusion.core.reverse_process import Diffusion, from_network, reverse
from diffusion.core.score import score
from diffusion.sampling import ddim_latents
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.heun import heun
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support import reference
from tests.support.worlds import GAUSSIAN, MIXTURE, ancestral_step, float64

T = 12
PROCESS = flow(schedules.rectified(T))
EVERY_T = jnp.arange(1, T + 1)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def chain(T: int) -> reference.Chain:
    """One step after the other: x_t = a x_s + sqrt(beta) e must give (1 - u) x_0 + u eps."""
    u = [t / T for t in range(T + 1)]
    a = [1.0, *((1 - u[t]) / (1 - u[t - 1]) for t in range(1, T + 1))]
    return reference.Chain(
        np.array(a), np.array([0.0, *(u[t] ** 2 - a[t] ** 2 * u[t - 1] ** 2 for t in range(1, T + 1))])
    )


def test_tables_are_those_of_the_chain_of_steps():
    found, steps = float64(PROCESS), chain(T)
    signal, var = reference.marginals(steps)
    np.testing.assert_allclose(found.signal, 1 - np.arange(T + 1) / T, rtol=1e-6)
    np.testing.assert_allclose(found.noise, np.arange(T + 1) / T, rtol=1e-6)
    np.testing.assert_allclose(found.signal, signal, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(found.noise**2, var, rtol=1e-6, atol=1e-15)
    for t in range(1, T + 1):
        c_x_0, c_x_t, conditional = reference.posterior(steps, t)
        np.testing.assert_allclose([found.c_x_0[t], found.c_x_t[t]], [c_x_0, c_x_t], rtol=1e-6, atol=1e-12)
        if t > 1:
            np.testing.assert_allclose(np.exp(found.log_beta_tilde[t]), conditional, rtol=1e-5)
            np.testing.assert_allclose(np.exp(found.log_beta[t]), steps.beta[t], rtol=1e-5)
    x_s = jnp.ones((T, 3))
    step = q_step(PROCESS, x_s, EVERY_T)
    np.testing.assert_allclose(step.mean[:, 0], steps.a[1:], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(jnp.exp(step.log_var[:, 0]), steps.beta[1:], rtol=1e-5)


def test_no_signal_is_left():
    """x_T is noise whatever x_0 is: L_T is 0, and every table finite at that end."""
    assert (PROCESS.signal[T], PROCESS.noise[T], PROCESS.prior_log_var) == (0, 1, 0)
    np.testing.assert_allclose(elbo.prior_kl(PROCESS, 5 * jnp.ones((2, 3))), 0, atol=1e-12)
    assert float(snr(PROCESS, jnp.array([T]))[0]) == 0
    assert all(np.isfinite(table).all() for table in PROCESS)
    for n in (1, 2):  # the shortest chains are nothing but such an end
        assert all(np.isfinite(table).all() for table in flow(schedules.rectified(n)))


def test_velocity_is_the_derivative_of_the_path():
    """eps - x_0 = dx / du of x = (1 - u) x_0 + u eps, at any u: neighbouring steps differ by du times it."""
    x_0, eps = jax.random.normal(jax.random.key(0), (2, T, 3))
    target = velocity.target(PROCESS, Noised(x_0, eps, q_sample(PROCESS, x_0, EVERY_T, eps), EVERY_T))
    steps = T * (q_sample(PROCESS, x_0, EVERY_T, eps) - q_sample(PROCESS, x_0, EVERY_T - 1, eps))
    np.testing.assert_allclose(target, steps, rtol=1e-4, atol=1e-5)


def test_its_plain_squared_error_is_flow_matching():
    """L_simple weighs an error of the velocity by 1; in x_0 space that is (1 / u)^2."""
    weight = weighting.native(PROCESS, velocity, EVERY_T)
    np.testing.assert_allclose(weight, (T / np.arange(1, T + 1)) ** 2, rtol=1e-6)
    np.testing.assert_allclose(weight * velocity.gain(PROCESS, EVERY_T) ** 2, 1, rtol=1e-6)
    assert np.isinf(parameterization.eps.gain(PROCESS, EVERY_T)[-1])  # why the config refuses it
    x_0, eps, out = jax.random.normal(jax.random.key(1), (3, T, 3))
    diffusion = Diffusion(PROCESS, velocity, variance.fixed_small)
    terms = evaluate(Objective(weighting.native, 0.0), diffusion, noised(PROCESS, x_0, EVERY_T, eps), out, None)
    np.testing.assert_allclose(terms.loss, np.mean(np.float64(out - (eps - x_0)) ** 2, axis=1), rtol=1e-5)


@pytest.mark.parametrize("kept", [np.arange(T + 1), np.array([0, 1, 4, 5, 9, 12])], ids=["even", "uneven"])
def test_ddim_is_eulers_method(kept):
    """x_s = x_t - (u_t - u_s) v(x_t, t), for any network, on any grid; by a float64 loop."""
    matrix = np.random.default_rng(0).normal(size=(3, 3)) / 2

    def network(x_t: jax.Array, time: jax.Array) -> jax.Array:
        return jnp.sin(x_t @ jnp.asarray(matrix, jnp.float32)) + 0.1 * time[:, None]

    process = flow(schedules.rectified(T)[kept], base_t=kept)
    keys = image_keys(0, jnp.arange(5))
    x_T = prior_sample(keys, process, (3,))
    found = sample(keys, process, ddim(process), from_network(PROCESS, velocity, network), x_T).x_0
    x, u = np.asarray(x_T, np.float64), kept / T
    scale = 1 / np.hypot(1 - u, u)  # of what the network is given
    for i in range(len(kept) - 1, 0, -1):
        x = x - (u[i] - u[i - 1]) * (np.sin(scale[i] * x @ matrix) + 0.1 * (kept[i] - 1))
    np.testing.assert_allclose(found, x, rtol=2e-5, atol=2e-5)


def test_the_optimal_velocity_carries_one_marginal_to_the_next():
    """E[eps - x_0 | x_u] is the derivative of the map between marginals, which for a Gaussian is affine."""
    fine = flow(schedules.rectified(1000))
    x = np.random.default_rng(1).normal(size=(7, 3))
    for t in (2, 300, 700, 999):
        prediction = GAUSSIAN.denoiser(fine)(jnp.asarray(x, jnp.float32), jnp.full(7, t))
        slope = (GAUSSIAN.flow(fine, x, t, t + 1) - GAUSSIAN.flow(fine, x, t, t - 1)) * 1000 / 2
        np.testing.assert_allclose(prediction.eps - prediction.x_0, slope, rtol=2e-3, atol=2e-3)


def test_velocity_and_score_are_one_another():
    """v = -(x + u score) / (1 - u), from x_0 = (x + u^2 score) / (1 - u) and eps = -u score."""
    x = jax.random.normal(jax.random.key(2), (T - 1, 3))
    t = EVERY_T[:-1]
    prediction = MIXTURE.denoiser(PROCESS)(x, t)
    u = t[:, None].astype(jnp.float32) / T
    expected = -(x + u * score(PROCESS, prediction, t)) / (1 - u)
    np.testing.assert_allclose(prediction.eps - prediction.x_0, expected, rtol=1e-4, atol=1e-4)


ORDERS = {"ddim": (ddim, 1), "heun": (heun, 2)}


@pytest.mark.parametrize("name", ORDERS)
def test_solvers_converge_at_their_order(name):
    """To the exact flow of the Gaussian world from u = 1: the error falls as T^-order."""
    make, order = ORDERS[name]
    x_T = jax.random.normal(jax.random.key(3), (64, 3))
    keys = image_keys(0, jnp.arange(64))
    errors = []
    for n in (16, 32, 64):
        process = flow(schedules.rectified(n))
        found = sample(keys, process, make(process), GAUSSIAN.denoiser(process), x_T).x_0
        errors.append(np.sqrt(np.mean((np.float64(found) - GAUSSIAN.flow(process, x_T, n)) ** 2)))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(rates - order) < 0.35).all(), rates


@pytest.mark.parametrize("make", [ddim, heun, dpm_solver, lambda p: ancestral(p, variance.fixed_small)])
def test_one_step_is_the_mean_of_the_data(make):
    """At T = 1 there is nothing but the end without signal, where E[x_0 | x_T] = E[x_0]."""
    process = flow(schedules.rectified(1))
    keys = image_keys(0, jnp.arange(4))
    found = sample(keys, process, make(process), GAUSSIAN.denoiser(process), prior_sample(keys, process, (3,))).x_0
    np.testing.assert_allclose(found, np.broadcast_to(GAUSSIAN.mean, (4, 3)), atol=1e-6)


def test_the_bound_holds_and_is_tight():
    """The chain has a bound as any other: with the exact reverse variances it is the entropy of the data."""
    log_var = np.stack([GAUSSIAN.reverse_var(PROCESS, max(t, 1)) for t in range(T + 1)])
    exact = GAUSSIAN.terms(PROCESS, np.log(log_var)).sum() + GAUSSIAN.prior_kl(PROCESS)
    assert exact == pytest.approx(GAUSSIAN.entropy(), rel=1e-5)
    n = 4096
    x_0 = GAUSSIAN.draw(jax.random.key(4), n)
    denoise = GAUSSIAN.denoiser(PROCESS, optimal_variance=True)
    keys = image_keys(5, jnp.arange(n))
    found = elbo.bound(
        keys, Diffusion(PROCESS, parameterization.eps, variance.learned), denoise, x_0, decoder=gaussian.log_prob
    )
    assert np.isfinite(found.terms).all()
    total = np.float64(found.total)
    assert abs(total.mean() - GAUSSIAN.entropy()) < 4 * total.std() / np.sqrt(n)
    mean, var = GAUSSIAN.chain_law(PROCESS, ancestral_step(PROCESS, np.log(log_var)))
    np.testing.assert_allclose(mean, GAUSSIAN.mean, atol=1e-6)
    assert (var < GAUSSIAN.std**2).all()  # the last step gives the mean, and takes its variance away


def test_inversion_passes_the_end_without_signal():
    """encode divides by no signal: x_T of the Gaussian world is the flow's, and decode leads back."""
    process = flow(schedules.rectified(200))
    x_0 = GAUSSIAN.draw(jax.random.key(6), 16)
    denoise = GAUSSIAN.denoiser(process)
    x_T = ddim_latents.encode(process, denoise, x_0)
    np.testing.assert_allclose(x_T, GAUSSIAN.flow(process, x_0, 0, 200), atol=0.05)
    back = ddim_latents.decode(process, denoise, x_T)
    np.testing.assert_allclose(back, x_0, atol=0.05)


def test_the_last_step_back_forgets_x_T():
    """p(x_{T-1} | x_T) has the mean signal[T-1] x_0_hat, since x_T tells nothing of x_{T-1} beyond it."""
    x_T = jax.random.normal(jax.random.key(7), (5, 3))
    t = jnp.full(5, T)
    prediction = GAUSSIAN.denoiser(PROCESS)(x_T, t)
    mean = reverse(PROCESS, variance.fixed_small, prediction, x_T, t).mean
    np.testing.assert_allclose(mean, np.broadcast_to(GAUSSIAN.mean / T, (5, 3)), atol=1e-6)
