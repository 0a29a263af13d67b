"""Weights in x_0 space: their formulas, published values, and L_simple with its weight restored."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from worlds import cases

from diffusion import elbo, parameterization, schedules, variance, weighting
from diffusion.denoiser import interpret
from diffusion.gaussian import mean_dims
from diffusion.objective import Objective, evaluate
from diffusion.process import q_posterior, q_sample, snr, vp

ULP = 2.0**-23
T = 50
CASES = {case.name: case for case in cases(T)}
EVERY_T = jnp.arange(1, T + 1)
PARAMETERIZATIONS = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
}


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.mark.parametrize("p", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", CASES)
def test_native_undoes_the_gain(name, p):
    process, p = CASES[name].process, PARAMETERIZATIONS[p]
    weight = weighting.native(process, p, EVERY_T)
    np.testing.assert_allclose(weight * p.gain(process, EVERY_T) ** 2, 1.0, rtol=4 * ULP)


@pytest.mark.parametrize("name", CASES)
def test_mu_mse_is_the_squared_error_of_mu(name):
    process = CASES[name].process
    x_0, hat = jax.random.normal(jax.random.key(0), (2, T, 3))
    x_t = jnp.zeros_like(x_0)  # cancels exactly
    difference = q_posterior(process, x_0, x_t, EVERY_T).mean - q_posterior(process, hat, x_t, EVERY_T).mean
    weight = weighting.mu_mse(process, parameterization.eps, EVERY_T)
    expected = weight * mean_dims((x_0 - hat) ** 2)
    np.testing.assert_allclose(mean_dims(difference**2), expected, rtol=1e-5)  # a difference of like numbers


@pytest.mark.parametrize("name", CASES)
def test_vlb_is_half_the_fall_of_the_signal_to_noise_ratio(name):
    _, process, chain, _ = CASES[name]
    signal, var = reference.marginals(chain)
    ratio = signal[1:] ** 2 / var[1:]
    found = weighting.vlb(process, parameterization.eps, EVERY_T)
    # exp of a log-variance of size up to 8 that is good to an ulp: 8 ulp, and c_x_0 squared
    np.testing.assert_allclose(found[1:], (ratio[:-1] - ratio[1:]) / 2, rtol=16 * ULP)
    own = snr(process, EVERY_T)
    np.testing.assert_allclose(found[1:], (own[:-1] - own[1:]) / 2, rtol=16 * ULP * ratio[0] / (ratio[0] - ratio[1]))
    assert float(found[0]) == pytest.approx(1 / (2 * reference.posterior(chain, 2)[2]), rel=16 * ULP)


@pytest.mark.parametrize(
    ("log_var", "bits"),
    [
        ("log_beta", {2: 0.393, 3: 0.280, 11: 0.0984, 101: 0.0144, 501: 0.00795, 1000: 0.0147}),
        ("log_beta_tilde", {2: 0.865, 3: 0.459, 11: 0.114, 101: 0.0147, 501: 0.00796, 1000: 0.0147}),
    ],
)
def test_published_weights_of_the_eps_error(log_var, bits):
    """Bits/dim that a unit of squared error of eps costs in the bound, for the linear schedule of 1000 steps."""
    process = vp(schedules.linear(1000))
    t = jnp.array(list(bits))
    variance_factor = jnp.exp(process.log_beta_tilde[t] - getattr(process, log_var)[t])
    weight = weighting.vlb(process, parameterization.eps, t) * parameterization.eps.gain(process, t) ** 2
    for found, (step, golden) in zip(weight * variance_factor / math.log(2), bits.items(), strict=True):
        digit = 0.5 * 10 ** (math.floor(math.log10(golden)) - 2)  # printed to three digits
        assert float(found) == pytest.approx(golden, abs=1.01 * digit), step


@pytest.mark.parametrize("p", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", CASES)
def test_l_simple_with_its_weight_restored_is_the_kl(name, p):
    """weight_vlb ||x_0 - x_0_hat||^2, as the objective computes it from the output's error, is L_{t-1} for t >= 2."""
    process, p = CASES[name].process, PARAMETERIZATIONS[p]
    x_0, eps, noise = jax.random.normal(jax.random.key(1), (3, T, 3))
    restored = Objective(weight=weighting.vlb, vlb=0.0)

    @jax.jit
    def both():
        x_t = q_sample(process, x_0, EVERY_T, eps)
        target = p.target(process, x_0, x_t, eps, EVERY_T)
        out = target + noise
        loss = evaluate(restored, process, p, variance.fixed_small, out, None, x_0, eps, x_t, EVERY_T).loss
        prediction = interpret(process, p, out, None, x_t, EVERY_T)
        size = jnp.abs(target).max(axis=1), jnp.abs(x_0).max(axis=1)
        return 3 * loss, elbo.step_kl(process, variance.fixed_small, x_0, x_t, EVERY_T, prediction), size

    restored_loss, kl, (target, clean) = (jax.tree.map(np.float64, leaf) for leaf in both())
    # mu errs by c_x_0 gain noise, which the KL finds as a difference of numbers of size c_x_0 (x_0 + gain target) and |mu|
    gain = np.float64(p.gain(process, EVERY_T))
    error = np.sqrt(np.mean(np.float64(noise) ** 2, axis=1)) * gain
    spread = np.abs(process.c_x_t[1:]) * (np.float64(process.noise[1:]) * 4 + clean) / np.float64(process.c_x_0[1:])
    tolerance = 16 * ULP * (1 + (clean + gain * (target + 4) + spread) / error)
    assert (np.abs(restored_loss - kl) <= tolerance * kl)[1:].all()
    assert np.median(tolerance) < 2e-3
