"""The forward process and its posterior, against composition and dense conditioning."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import forward_process as q
from diffusion.core import schedules
from diffusion.core.forward_process import Process, from_tables, ve, vp
from diffusion.core.gaussian import Gaussian
from tests.support import reference
from tests.support.worlds import cases, float64

ULP = 2.0**-23  # of float32
q_sample, q_marginal, q_step = jax.jit(q.q_sample), jax.jit(q.q_marginal), jax.jit(q.q_step)
q_posterior, snr = jax.jit(q.q_posterior), jax.jit(q.snr)
CASES = {case.name: case for case in cases(100)}


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def every_t(process: Process) -> jax.Array:
    return jnp.arange(1, process.T + 1)


@pytest.mark.parametrize("name", CASES)
def test_signal_and_noise_are_the_composition_of_the_steps(name):
    _, process, chain, prior_var = CASES[name]
    signal, var = reference.marginals(chain)
    # 3 ulp: one rounding to float32; float64 errors of 1e-16 / beta_1 are far below
    np.testing.assert_allclose(process.signal, signal, rtol=3 * ULP)
    np.testing.assert_allclose(process.noise, np.sqrt(var), rtol=3 * ULP)
    assert float(process.prior_log_var) == pytest.approx(math.log(prior_var), rel=3 * ULP)
    assert process.T == chain.T == 100
    assert all(table.dtype == jnp.float32 for table in process._replace(base_t=process.signal))
    np.testing.assert_array_equal(process.time, [0, *range(100)])
    assert process.sigma_data == 1
    np.testing.assert_array_equal(process.base_t, np.arange(101))
    assert process.base_t.dtype == jnp.int32


@pytest.mark.parametrize("name", CASES)
def test_q_steps_compose_to_q_sample(name):
    """Chapman-Kolmogorov: t steps of q(x_t | x_{t-1}) are q(x_t | x_0), for every t."""
    process = CASES[name].process
    steps = q_step(process, jnp.ones((process.T, 1)), every_t(process))
    drawn = q_sample(process, jnp.full((process.T, 1), 2.0), every_t(process), jnp.full((process.T, 1), 0.5))
    mean, var = 1.0, 0.0
    for t in range(1, process.T + 1):
        a, beta = float(steps.mean[t - 1, 0]), math.exp(float(steps.log_var[t - 1, 0]))
        mean, var = a * mean, a * a * var + beta
        # each factor a is rounded to 2 ulp, and so is beta (through a logarithm of size up to 7)
        assert mean == pytest.approx(float(process.signal[t]), rel=2 * t * ULP)
        assert math.sqrt(var) == pytest.approx(float(process.noise[t]), rel=(2 * t + 16) * ULP)
        assert 2 * mean + 0.5 * math.sqrt(var) == pytest.approx(float(drawn[t - 1, 0]), rel=(2 * t + 16) * ULP)


@pytest.mark.parametrize("name", CASES)
def test_q_step_is_the_chain_of_the_paper(name):
    _, process, chain, _ = CASES[name]
    x = jnp.linspace(-1.0, 1.0, 3 * process.T).reshape(process.T, 3)
    step = q_step(process, x, every_t(process))
    np.testing.assert_allclose(step.mean, chain.a[1:, None] * np.float64(x), rtol=4 * ULP)
    np.testing.assert_allclose(step.log_var[:, 0], np.log(chain.beta[1:]), rtol=0, atol=16 * ULP)


@pytest.mark.parametrize("name", CASES)
def test_q_posterior_is_dense_conditioning(name):
    _, process, chain, _ = CASES[name]
    key = jax.random.key(0)
    x_0, x_t = jax.random.normal(key, (2, process.T, 3))
    found = q_posterior(process, x_0, x_t, every_t(process))
    rows = np.array([reference.posterior(chain, t) for t in range(1, process.T + 1)])
    c_x_0, c_x_t, var = rows.T
    np.testing.assert_allclose(process.c_x_0[1:], c_x_0, rtol=1e-6)
    np.testing.assert_allclose(process.c_x_t[1:], c_x_t, rtol=1e-6)
    expected = c_x_0[:, None] * np.float64(x_0) + c_x_t[:, None] * np.float64(x_t)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-6, atol=8 * ULP)  # a sum of two terms of size up to 4
    np.testing.assert_allclose(found.log_var[1:, 0], np.log(var[1:]), rtol=1e-6)
    assert var[0] == 0.0
    assert found.log_var[0, 0] == process.log_beta_tilde[1]


def test_the_posterior_ignores_the_later_path():
    """Conditioning the whole dense path on x_0, x_t and x_{t+1}..x_T gives the same two coefficients (q is Markov)."""
    case = cases(6)[0]
    cov = reference.path_covariance(case.chain, 6)
    for t in range(2, 7):
        coefficients, var = reference.regress(cov, t - 1, [0, *range(t, 7)])
        np.testing.assert_allclose(coefficients[:2], [case.process.c_x_0[t], case.process.c_x_t[t]], rtol=1e-5)
        np.testing.assert_allclose(coefficients[2:], 0, atol=1e-9)
        assert math.log(var) == pytest.approx(float(case.process.log_beta_tilde[t]), rel=1e-5)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_mean_and_variance_of_equation_7(name):
    """DDPM eq. 7 as it stands there, in float64."""
    _, process, chain, _ = CASES[name]
    beta, t = chain.beta[1:], every_t(process)
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - beta)])
    before, now = alpha_bar[:-1], alpha_bar[1:]
    np.testing.assert_allclose(process.c_x_0[1:], np.sqrt(before) * beta / (1 - now), rtol=1e-6)
    np.testing.assert_allclose(process.c_x_t[1:], np.sqrt(1 - beta) * (1 - before) / (1 - now), rtol=1e-6)
    np.testing.assert_allclose(process.beta_tilde(t), (1 - before) / (1 - now) * beta, rtol=16 * ULP)


def test_published_posterior_coefficients():
    process = vp(schedules.linear(1000))
    assert (float(process.c_x_0[1]), float(process.c_x_t[1])) == (1.0, 0.0)
    assert float(process.beta_tilde(jnp.array([2]))[0]) == pytest.approx(5.453e-5, rel=1e-4)
    assert float(process.c_x_0[1000]) == pytest.approx(1.2835149e-4, rel=1e-6)
    assert float(process.c_x_t[1000]) == pytest.approx(0.98994868, rel=1e-6)


class TestThePosteriorMeanInEps:
    """c_x_0 x_0 + c_x_t x_t is (x_t - beta eps / sqrt(1 - alpha_bar)) / sqrt(alpha). DDPM eq. 9-11.

    Namely for the x_0 that eps stands for, (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar). Doubts about this are
    unfounded: it is no approximation but an identity, as beta_t + alpha_t (1 - alpha_bar_{t-1}) = 1 - alpha_bar_t. It
    holds without rounding in the rational numbers.
    """

    def test_in_exact_arithmetic(self):
        beta = [Fraction(k, 7 + k * k) for k in range(1, 20)]  # any numbers in (0, 1)
        alpha_bar = Fraction(1)
        for b in beta:
            before, alpha = alpha_bar, 1 - b
            alpha_bar = before * alpha
            # c_x_t and c_x_0 without their square roots: c_x_t / sqrt(alpha), c_x_0 / sqrt(alpha_bar[t-1])
            c_x_t, c_x_0 = (1 - before) / (1 - alpha_bar), b / (1 - alpha_bar)
            # factor of x_t, times sqrt(alpha): sqrt(alpha_bar[t-1] / alpha_bar[t]) = 1 / sqrt(alpha)
            assert c_x_0 + c_x_t * alpha == 1
            # factor of -eps, squared: c_x_0^2 (1 - alpha_bar) / alpha_bar
            assert c_x_0**2 * before * (1 - alpha_bar) / alpha_bar == b**2 / (alpha * (1 - alpha_bar))

    @pytest.mark.parametrize("schedule", [reference.linear, reference.cosine, reference.quad])
    def test_in_float64_at_every_step(self, schedule):
        chain = reference.vp_chain(schedule(1000))
        signal, var = reference.marginals(chain)
        a, beta = chain.a[1:], chain.beta[1:]
        c_x_0 = signal[:-1] * beta / var[1:]
        c_x_t = a * var[:-1] / var[1:]
        np.testing.assert_allclose(c_x_0 / signal[1:] + c_x_t, 1 / a, rtol=1e-12)
        np.testing.assert_allclose(c_x_0 * np.sqrt(var[1:]) / signal[1:], beta / (a * np.sqrt(var[1:])), rtol=1e-12)

    @pytest.mark.parametrize("make", [schedules.linear, schedules.cosine])
    def test_in_the_package(self, make):
        alpha_bar = make(1000)
        process = vp(alpha_bar)
        t = every_t(process)
        x_t, eps = jax.random.normal(jax.random.key(1), (2, 1000, 3))
        x_0 = (x_t - process.noise[t][:, None] * eps) / process.signal[t][:, None]
        found = q_posterior(process, x_0, x_t, t).mean
        alpha = (alpha_bar[1:] / alpha_bar[:-1])[:, None]
        beta = 1 - alpha
        paper = (np.float64(x_t) - beta * np.float64(eps) / np.sqrt(1 - alpha_bar[1:, None])) / np.sqrt(alpha)
        # the two terms, c_x_0 x_0 and c_x_t x_t, may be as large as 4 / sqrt(alpha) and cancel: 4 roundings of that
        assert (np.abs(found - paper) <= 16 * ULP / np.sqrt(alpha)).all()


@pytest.mark.parametrize("name", CASES)
def test_snr(name):
    _, process, chain, _ = CASES[name]
    signal, var = reference.marginals(chain)
    found = snr(process, every_t(process))
    np.testing.assert_allclose(found, signal[1:] ** 2 / var[1:], rtol=8 * ULP)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("name", CASES)
def test_q_sample_and_q_marginal_agree(name):
    process = CASES[name].process
    t = every_t(process)
    x_0, eps = jax.random.normal(jax.random.key(2), (2, process.T, 2, 2, 1))
    x_t, g = q_sample(process, x_0, t, eps), q_marginal(process, x_0, t)
    assert x_t.shape == x_0.shape
    # x_t is rounded to an ulp before noise[t] divides, and so is log_var, of size up to 8
    error = (x_t - g.mean) / jnp.exp(0.5 * g.log_var) - eps
    assert (np.abs(error) <= 4 * ULP * np.abs(x_t) * jnp.exp(-0.5 * g.log_var) + 16 * ULP * np.abs(eps)).all()
    np.testing.assert_array_equal(q_sample(process, x_0, 0 * t, eps), x_0)


def test_prior():
    like = jnp.ones((2, 3))
    for case in CASES.values():
        g = q.prior(case.process, like)
        assert isinstance(g, Gaussian)
        np.testing.assert_array_equal(g.mean, 0)
        np.testing.assert_allclose(jnp.exp(g.log_var), case.prior_var, rtol=16 * ULP)
        assert g.mean.shape == g.log_var.shape == like.shape


@pytest.mark.parametrize("name", CASES)
def test_log_variance_tables(name):
    """log beta and log beta_tilde; entries 0 and 1 of the latter are the decoder's, as published."""
    _, process, chain, _ = CASES[name]
    beta, small = reference.log_variances(chain)
    np.testing.assert_allclose(process.log_beta, beta, rtol=1e-6, atol=ULP)
    np.testing.assert_allclose(process.log_beta_tilde, small, rtol=1e-6, atol=ULP)
    assert (process.log_beta[2:] > process.log_beta_tilde[2:]).all()


@pytest.mark.parametrize("name", CASES)
def test_beta_and_beta_tilde_have_no_stand_in(name):
    """The variances of DDPM eq. 2 and 7 at every step, that of the posterior at t = 1 being 0."""
    _, process, chain, _ = CASES[name]
    t = every_t(process)
    np.testing.assert_allclose(process.beta(t), chain.beta[1:], rtol=16 * ULP)
    beta_tilde = [reference.posterior(chain, s)[2] for s in range(1, chain.T + 1)]
    np.testing.assert_allclose(process.beta_tilde(t), beta_tilde, rtol=16 * ULP)
    assert float(process.beta_tilde(t)[0]) == 0.0


@pytest.mark.parametrize("name", ["linear", "cosine", "geometric"])
def test_a_respaced_process_is_the_process_of_recomputed_betas(name):
    ts = np.array([0, 1, 2, 5, 10, 30, 60, 99, 100])
    base = CASES[name]
    signal, var = reference.marginals(base.chain)
    if name == "geometric":
        sigma = schedules.geometric(100, 0.05, 50.0)
        process, chain = ve(sigma[ts], base_t=ts), reference.ve_chain(np.sqrt(var)[ts])
    else:
        alpha_bar = {"linear": schedules.linear(100, 1e-3, 0.2), "cosine": schedules.cosine(100)}[name]
        process = vp(alpha_bar[ts], base_t=ts)
        chain = reference.vp_chain(1 - (signal[ts[1:]] / signal[ts[:-1]]) ** 2)  # 1 - A_k / A_prev
    np.testing.assert_array_equal(process.base_t, ts)
    np.testing.assert_array_equal(process.signal, base.process.signal[ts])
    np.testing.assert_array_equal(process.noise, base.process.noise[ts])
    beta, small = reference.log_variances(chain)
    np.testing.assert_allclose(process.log_beta, beta, rtol=1e-6, atol=ULP)
    np.testing.assert_allclose(process.log_beta_tilde, small, rtol=1e-6, atol=ULP)
    rows = np.array([reference.posterior(chain, k) for k in range(1, 9)])
    np.testing.assert_allclose(process.c_x_0[1:], rows[:, 0], rtol=1e-6)
    np.testing.assert_allclose(process.c_x_t[1:], rows[:, 1], rtol=1e-6)


def test_respacing_to_all_steps_is_the_identity():
    alpha_bar = schedules.cosine(50)
    for a, b in zip(vp(alpha_bar), vp(alpha_bar[np.arange(51)], base_t=np.arange(51)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_step():
    process = vp(np.array([1.0, 1e-4]))
    assert process.T == 1
    assert all(np.isfinite(table).all() for table in process)
    assert float(process.log_beta[1]) == float(process.log_beta_tilde[1]) == pytest.approx(math.log(1 - 1e-4), rel=1e-6)


def test_a_process_that_ends_without_signal_has_finite_tables():
    process = vp(schedules.jsd(10))
    assert all(np.isfinite(table).all() for table in process)
    assert float(process.signal[10]) == 0.0
    assert float(process.c_x_t[10]) == 0.0
    assert float(process.c_x_0[10]) == pytest.approx(math.sqrt(0.1), rel=1e-6)


def test_no_table_holds_an_infinity():
    for case in CASES.values():
        assert all(np.isfinite(table).all() for table in float64(case.process))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: vp(np.array([1.0, 0.5, 0.5])), "step 2 adds no noise"),
        (lambda: vp(np.array([1.0, 0.5, 0.7, 0.1])), "step 2 adds no noise"),
        (lambda: vp(np.array([1.0, 0.5, math.nan])), "step 2 adds no noise"),
        (lambda: ve(np.array([0.0, 2.0, 1.0])), "step 2 adds no noise"),
        (lambda: vp(np.array([0.9, 0.5])), "entry 0 is clean data"),
        (lambda: ve(np.array([0.1, 0.5])), "entry 0 is clean data"),
        (lambda: vp(np.array([1.0])), "one entry for each t"),
        (lambda: from_tables(np.ones(3), np.zeros(4)), "one entry for each t"),
        (lambda: vp(np.array([1.0, 0.5]), base_t=np.array([0, 1, 2])), "base_t needs one entry for each t = 0..1"),
    ],
)
def test_impossible_tables_are_refused(call, match):
    with pytest.raises(ValueError, match=match) as error:
        call()
    assert "\n" not in str(error.value)
