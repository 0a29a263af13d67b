"""Weights in x_0 space: their formulas, published values, and L_simple with its weight restored."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import elbo, parameterization, schedules, variance, weighting
from diffusion.core.forward_process import Noised, q_posterior, q_sample, snr, vp
from diffusion.core.gaussian import mean_dims
from diffusion.core.objective import Objective, evaluate
from diffusion.core.reverse_process import Diffusion, interpret
from tests.support import reference
from tests.support.worlds import cases, float64, one_parameterization, stacked

ULP = 2.0**-23
T = 20
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
    posterior = jax.jit(q_posterior)
    difference = posterior(process, x_0, x_t, EVERY_T).mean - posterior(process, hat, x_t, EVERY_T).mean
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
    own = np.float64(snr(process, EVERY_T))
    fall = own[:-1] - own[1:]  # of which float32 leaves 8 ulp of own
    assert (np.abs(found[1:] - fall / 2) <= 16 * ULP * fall + 8 * ULP * own[:-1]).all()
    decoder = np.exp(reference.log_variances(chain)[1][1])
    assert float(found[0]) == pytest.approx(1 / (2 * decoder), rel=16 * ULP)


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
    p, tables = parameterization.eps, float64(process)
    weight = np.float64(weighting.vlb(process, p, t)) * np.float64(p.gain(process, t)) ** 2 / math.log(2)
    other_variance = np.exp(tables.log_beta_tilde - getattr(tables, log_var))[list(bits)]
    for found, (step, golden) in zip(weight * other_variance, bits.items(), strict=True):
        digit = 0.5 * 10 ** (math.floor(math.log10(golden)) - 2)  # printed to three digits
        assert float(found) == pytest.approx(golden, abs=1.01 * digit), step


@pytest.fixture(scope="module")
def restored(strict):  # noqa: ARG001
    """The weighted loss, the KL, and sizes of target, x_0 and error, with axes (process, parameterisation, t)."""
    x_0, eps, noise = jax.random.normal(jax.random.key(1), (3, T, 3))
    objective = Objective(weight=weighting.vlb, vlb=0.0)

    def both(process, p):
        chosen = one_parameterization(list(PARAMETERIZATIONS.values()), p)
        x_t = q_sample(process, x_0, EVERY_T, eps)
        target = chosen.target(process, Noised(x_0, eps, x_t, EVERY_T))
        out = target + noise
        loss = evaluate(
            objective, Diffusion(process, chosen, variance.fixed_small), Noised(x_0, eps, x_t, EVERY_T), out, None
        ).loss
        prediction = interpret(process, chosen, out, None, x_t, EVERY_T)
        kl = elbo.step_kl(Diffusion(process, chosen, variance.fixed_small), Noised(x_0, eps, x_t, EVERY_T), prediction)
        return 3 * loss, kl, jnp.abs(target).max(axis=1), jnp.abs(x_0).max(axis=1), jnp.abs(noise).max(axis=1)

    over_parameterizations = jax.vmap(both, in_axes=(None, 0))
    every = jax.jit(jax.vmap(over_parameterizations, in_axes=(0, None)))
    return [np.float64(a) for a in every(stacked(list(CASES.values())), jnp.arange(4))]


@pytest.mark.parametrize("p", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", CASES)
def test_l_simple_with_its_weight_restored_is_the_kl(name, p, restored):
    """weight_vlb ||x_0 - x_0_hat||^2, as the objective computes it from the output's error, is L_{t-1} for t >= 2."""
    where = list(CASES).index(name), list(PARAMETERIZATIONS).index(p)
    loss, kl, target, clean, error = (a[where] for a in restored)
    process, p = float64(CASES[name].process), PARAMETERIZATIONS[p]
    gain = np.float64(p.gain(CASES[name].process, EVERY_T))
    # the KL finds c_x_0 gain error as the difference of two means c_x_0 x_0 + c_x_t x_t, both of the size of
    # c_x_0 (x_0 + gain (target + error)) + |c_x_t x_t| and each with 8 roundings at most; and then it is squared
    parts = clean + gain * (target + error) + process.c_x_t[1:] / process.c_x_0[1:] * (clean + 4 * process.noise[1:])
    tolerance = 2 * 8 * ULP * parts / (gain * error)
    assert (np.abs(loss - kl) <= tolerance * kl)[1:].all()
    assert np.median(tolerance) < 2e-3
