"""Deterministic samplers against the exact probability flow; DDIM's noise; variances on respaced chains; inversion."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import respacing, schedules, variance
from diffusion.core.array_types import expand, normal
from diffusion.core.forward_process import Process, ve, vp
from diffusion.core.parameterization import Prediction, to_eps
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.ddim_latents import decode, encode, encode_step
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.edm import edm
from diffusion.sampling.heun import heun
from diffusion.sampling.langevin import annealed_langevin
from diffusion.sampling.predictor_corrector import by_noise, predictor_corrector
from diffusion.sampling.reverse_sde import reverse_diffusion
from diffusion.sampling.sampling_loop import Sampler, image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, GaussianWorld, cases, one_variance, stacked

SOLVERS = {"ddim": ddim, "heun": heun, "dpm_solver": dpm_solver, "edm": lambda process: edm(process, process)}
ORDERS = {"ddim": (0.93, 1.05), "heun": (1.85, 2.15), "dpm_solver": (1.8, 2.15), "edm": (1.85, 2.15)}
T = 20
CASES = {case.name: case for case in cases(T)}
N = 16


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def keys(n: int = N):
    return image_keys(3, jnp.arange(n))


# ------------------------------------------------------------------------------------------------ order of convergence

MOST = 160


def uneven(n: int) -> np.ndarray:
    """n steps over [0, 1], every other one three times as long: whoever takes their ratio for 1 loses an order."""
    steps = np.tile([1.0, 3.0], n // 2)
    return np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])


LEVELS = {
    "preserving": lambda n: vp(np.concatenate([[1.0], np.cos(0.1 + 1.4 * uneven(n)) ** 2])),
    "exploding": lambda n: ve(np.concatenate([[0.0], 0.1 * 200 ** uneven(n)])),
}
"""n steps between two fixed noise levels, entries n + 1 and 1; that to clean data is left out: it is first order."""


@partial(jax.jit, static_argnums=0)
def _solved(solver: str, process: Process, x: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
    sampler, denoise, unused = SOLVERS[solver](process), GAUSSIAN.denoiser(process), keys(len(x))

    def step(i, carry):
        return sampler.step(unused, carry[1], carry[0], jnp.full(len(x), first - i, jnp.int32), denoise)

    return jax.lax.fori_loop(0, first - last, step, (x, sampler.init(x)))[0]


def solved(solver: str, process: Process, x: np.ndarray, last: int) -> np.ndarray:
    """x taken from t = T down to `last`; the tables are padded, so that one compiled program serves every process."""
    missing = MOST + 2 - len(process.signal)
    padded = jax.tree.map(lambda a: jnp.pad(a, (0, missing), mode="edge") if a.ndim else a, process)
    return np.float64(_solved(solver, padded, jnp.float32(x), jnp.int32(process.T), jnp.int32(last)))


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_order_of_convergence(solver, levels, rng):
    z, errors = rng.normal(size=(N, 3)), []
    for n in (40, 80, MOST):
        process = LEVELS[levels](n)
        mean, var = GAUSSIAN.marginal(process, n + 1)
        x = mean + np.sqrt(var) * z
        errors.append(rms(solved(solver, process, x, 1) - GAUSSIAN.flow(process, x, n + 1, 1)))
    low, high = ORDERS[solver]
    assert low < np.log2(errors[0] / errors[-1]) / 2 < high
    assert errors[-1] < {"ddim": 1e-2, "heun": 1e-4, "dpm_solver": 2e-4, "edm": 3e-4}[solver]


FINE_DETAIL = {
    ("ddim", 10): (0.49, 0.37, 0.69),
    ("ddim", 20): (0.52, 0.55, 0.84),
    ("ddim", 50): (0.60, 0.78, 0.94),
    ("dpm_solver", 10): (0.54, 0.66, 1.32),
    ("dpm_solver", 20): (0.59, 0.94, 1.25),
    ("dpm_solver", 50): (0.70, 1.11, 1.07),
    ("heun", 10): (4.86, 2.02, 1.08),
    ("heun", 20): (2.61, 1.30, 1.02),
    ("heun", 50): (1.38, 1.04, 1.00),
}
"""(solver, steps) -> std of its samples over that of data with std 0.01, 0.05 and 0.2: the table of docs/results.md."""


@pytest.mark.parametrize(("solver", "n"), FINE_DETAIL)
def test_few_steps_shrink_or_amplify_fine_detail(solver, n):
    """Derived in float64 by the recursion of each method for one number, without this project's code."""
    alpha_bar, steps = schedules.cosine(1000), respacing.sections(1000, (n,))
    data = GaussianWorld(np.zeros(3), np.array([0.01, 0.05, 0.2]))
    process = vp(alpha_bar[steps], base_t=steps)
    chain = SOLVERS[solver](process)
    x_0 = sample(keys(1), process, chain, data.denoiser(vp(alpha_bar)), jnp.ones((1, 3))).x_0
    np.testing.assert_allclose(x_0[0] / data.std, FINE_DETAIL[solver, n], atol=0.0055)


@pytest.mark.parametrize("solver", SOLVERS)
def test_whole_chains_approach_the_flow_to_the_data(solver, rng):
    """From x_T to x_0 on grids of one process, the first-order step to t = 0 included."""
    alpha_bar, x_T, errors = schedules.cosine(MOST), rng.normal(size=(N, 3)), []
    for n in (10, 40, MOST):
        process = vp(alpha_bar[:: MOST // n])
        errors.append(rms(solved(solver, process, x_T, 0) - GAUSSIAN.flow(process, x_T, n, 0)))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[-1] < 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_process_that_leaves_no_signal(solver, rng):
    """jsd has signal[T] = 0, a log-SNR of minus infinity: the chain follows the flow all the same."""
    process, x_T = vp(schedules.jsd(MOST)), rng.normal(size=(N, 3))
    assert rms(solved(solver, process, x_T, 0) - GAUSSIAN.flow(process, x_T, MOST, 0)) < 0.03


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_known_x_0_is_reached_in_any_step(solver, name):
    """With x_0_hat constant the flow is signal x_0 + noise eps, which every method follows exactly, at any step."""
    process = CASES[name].process
    x_0, eps = jax.random.normal(jax.random.key(1), (2, T, 3))
    t = jnp.arange(1, T + 1)
    x_t = process.signal[t][:, None] * x_0 + process.noise[t][:, None] * eps

    def denoise(x, s):
        return Prediction(x_0, to_eps(process, x_0, x, s), None)

    sampler = SOLVERS[solver](process)
    found, _ = jax.jit(lambda: sampler.step(keys(T), sampler.init(x_t), x_t, t, denoise))()
    s = t - 1
    expected = process.signal[s][:, None] * x_0 + process.noise[s][:, None] * eps
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(found[0], x_0[0])  # the step to t = 0 returns x_0_hat itself


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_step_returns_x_0_hat(solver):
    process = vp(np.array([1.0, 1e-4]))
    x_T, denoise = jax.random.normal(jax.random.key(7), (N, 3)), GAUSSIAN.denoiser(process)
    found = sample(keys(), process, SOLVERS[solver](process), denoise, x_T).x_0
    np.testing.assert_allclose(found, denoise(x_T, jnp.ones(N, jnp.int32)).x_0, rtol=1e-6)


def test_network_calls():
    """One call a step, two for Heun (the second at the end of the step); steps are those of the base process."""
    ts = np.array([0, 1, 5, 12, 20])
    process = vp(schedules.cosine(T)[ts], base_t=ts)
    seen: list[int] = []

    def denoise(x_t, t):
        jax.debug.callback(lambda t: seen.append(int(t[0])), t, ordered=True)
        return Prediction(0.5 * x_t, x_t, None)

    expected = {"ddim": [20, 12, 5, 1], "dpm_solver": [20, 12, 5, 1], "heun": [20, 12, 12, 5, 5, 1, 1, 1]}
    expected["edm"] = expected["heun"]
    for solver in SOLVERS:
        sample(keys(2), process, SOLVERS[solver](process), denoise, jnp.ones((2, 3)))
        jax.effects_barrier()
        assert seen == expected[solver]
        seen.clear()


def test_the_multi_step_state_passes_through_collected_steps():
    process = CASES["cosine"].process
    denoise, x_T = GAUSSIAN.denoiser(process), prior_sample(keys(), process, (3,))
    runs = [
        jax.jit(lambda c=c: sample(keys(), process, dpm_solver(process), denoise, x_T, collect=c).x_0)()
        for c in ((), (15, 8, 3))
    ]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- DDIM's noise


def test_eta_1_is_ancestral_sampling_with_the_small_variance():
    """The same images from the same keys, for all processes at once."""

    def chains(make):
        def chain(process):
            denoise, x_T = GAUSSIAN.denoiser(process), prior_sample(keys(), process, (3,))
            return sample(keys(), process, make(process), denoise, x_T).x_0

        return jax.jit(jax.vmap(chain))(stacked(list(CASES.values())))

    ours = chains(lambda process: ddim(process, 1.0))
    theirs = chains(lambda process: ancestral(process, variance.fixed_small))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


TS = np.array([0, 2, 5, 9, 14, 20])
ALPHA_BAR = schedules.linear(T, 0.01, 0.75)
BASE, RESPACED = vp(ALPHA_BAR), vp(ALPHA_BAR[TS], base_t=TS)
AFTER, BEFORE = ALPHA_BAR[TS[1:]], ALPHA_BAR[TS[:-1]]
"""alpha_bar of a kept step and of the kept step before it, for t = 1..5 of the respaced process."""


class OneStep(NamedTuple):
    """Step t of the respaced process, t = 1..5, from row t - 1."""

    x_t: np.ndarray
    x_s: np.ndarray
    x_0: np.ndarray
    eps: np.ndarray
    z: np.ndarray
    """The normal numbers that the sampler has drawn, 0 at t = 1."""


def one_step(sampler: Sampler, raw_var: float = 0.0) -> OneStep:
    """What a sampler does with known noise."""
    t, x_t, some = jnp.arange(1, 6), jax.random.normal(jax.random.key(2), (5, 3)), keys(5)

    def denoise(x, s):
        return GAUSSIAN.denoiser(BASE)(x, s)._replace(raw_var=jnp.full_like(x, raw_var))

    x_s, _ = sampler.step(some, (), x_t, t, denoise)
    found, z = denoise(x_t, RESPACED.base_t[t]), normal(some, x_t) * (t > 1).astype(jnp.float32)[:, None]
    return OneStep(*(np.float64(x) for x in (x_t, x_s, found.x_0, found.eps, z)))


def assert_step(found: OneStep, var: np.ndarray, noise_var: np.ndarray | None = None) -> None:
    """x_s = sqrt(A') x_0_hat + sqrt(1 - A' - var) eps_hat + sqrt(noise_var) z, A' before A. DDIM eq. 12."""
    mean = np.sqrt(BEFORE)[:, None] * found.x_0 + np.sqrt(1 - BEFORE - var)[:, None] * found.eps
    noise = np.sqrt(var if noise_var is None else noise_var)[:, None] * found.z
    np.testing.assert_allclose(found.x_s, mean + noise, rtol=1e-5, atol=1e-5)


SMALL = (1 - BEFORE) / (1 - AFTER) * (1 - AFTER / BEFORE)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_eta_scales_the_published_standard_deviation(eta):
    """sigma = eta sqrt((1 - A') / (1 - A)) sqrt(1 - A / A'). DDIM eq. 16."""
    assert_step(one_step(ddim(RESPACED, eta)), eta**2 * SMALL)


def test_the_larger_variance_variant_is_ancestral_with_fixed_large():
    """DDIM's sigma-hat: noise of variance 1 - A / A' around the mean of eta = 1."""
    assert_step(one_step(ancestral(RESPACED, variance.fixed_large)), SMALL, 1 - AFTER / BEFORE)


# ----------------------------------------------------------------------------------- learned variances, respaced chains


@pytest.mark.parametrize("raw", [-1.0, -0.4, 0.0, 0.6, 1.0, 1.5])
def test_learned_range_interpolates_between_the_recomputed_bounds(raw):
    """log var = f log beta + (1 - f) log beta_tilde of betas recomputed over the kept steps. Improved DDPM eq. 15."""
    f = (raw + 1) / 2
    beta, beta_tilde = (1 - AFTER / BEFORE)[1:], SMALL[1:]
    var = np.exp(f * np.log(beta) + (1 - f) * np.log(beta_tilde))
    assert_step(one_step(ancestral(RESPACED, variance.learned_range), raw), SMALL, np.concatenate([[0.0], var]))


def test_whole_respaced_chains_at_the_ends_of_the_learned_range():
    """The same samples as with the fixed variances of the respaced process."""
    choices = [variance.fixed_small, variance.fixed_large, variance.learned_range]
    prior = prior_sample(keys(), RESPACED, (3,))

    @jax.jit
    def run(choice, raw):
        def denoise(x, s):
            return GAUSSIAN.denoiser(BASE)(x, s)._replace(raw_var=jnp.broadcast_to(raw, x.shape))

        return sample(keys(), RESPACED, ancestral(RESPACED, one_variance(choices, choice)), denoise, prior).x_0

    small, large = run(0, 0.3), run(1, 0.3)
    np.testing.assert_allclose(run(2, -1.0), small, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(2, 1.0), large, rtol=1e-5, atol=1e-6)
    assert np.abs(small - large).max() > 1e-2


NOISY = {
    "ancestral": (lambda p, z: ancestral(p, variance.fixed_large, z), lambda p, t: p.beta(t)),
    "ddim": (lambda p, z: ddim(p, 0.5, z), lambda p, t: 0.25 * p.beta_tilde(t)),
    "reverse_diffusion": (reverse_diffusion, lambda p, t: p.beta(t)),
    "annealed_langevin": (
        lambda p, z: annealed_langevin(p, 1, 0.3, z),
        lambda p, t: 2 * 0.18 * (p.noise[t] * p.signal[t - 1] / p.signal[t]) ** 2,
    ),
    "predictor_corrector": (
        lambda p, z: predictor_corrector(p, NO_STEP, 1, by_noise(p, 0.3), z),
        lambda p, t: 2 * 0.18 * (p.noise[t] * p.signal[t] / p.signal[t - 1]) ** 2,
    ),
}
"""name -> (process, noise) -> sampler, and the variance of its noise at step t > 1."""
NO_STEP = Sampler(lambda x_T: (), lambda keys, state, x_t, t, denoise: (x_t, state))  # noqa: ARG005


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_replaceable(name):
    """x_{t-1} differs by std[t] (z - z') where two functions give z and z', and by nothing at t = 1."""
    make, var = NOISY[name]
    process, t = CASES["cosine"].process, jnp.arange(1, T + 1)
    x_t, denoise = jax.random.normal(jax.random.key(1), (T, 3)), GAUSSIAN.denoiser(process)

    def stepped(z: float) -> np.ndarray:
        sampler = make(process, lambda keys, like, t: jnp.full_like(like, z) * expand(t.astype(like.dtype), like))  # noqa: ARG005
        return np.float64(sampler.step(keys(T), sampler.init(x_t), x_t, t, denoise)[0])

    corrects = name == "predictor_corrector"  # which precedes the predictor's step, at t = 1 too
    expected = np.arange(1, T + 1) * np.sqrt(np.float64(var(process, t))) * ((np.arange(1, T + 1) > 1) | corrects)
    difference = stepped(1.5) - stepped(0.5)
    np.testing.assert_allclose(difference, np.repeat(expected[:, None], 3, axis=1), rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------- inversion


def test_a_single_step_of_inversion():
    """x_{t+1} keeps x_0_hat and eps_hat of x_t; from clean data it keeps x_0 and takes eps_hat at the mean of x_1."""
    process, t = CASES["cosine"].process, jnp.array([0, 3, T - 1])
    x_t, denoise = GAUSSIAN.draw(jax.random.key(7), 3), GAUSSIAN.denoiser(process)
    found = encode_step(process, denoise, x_t, t)
    for i, s in enumerate((0, 3, T - 1)):
        start = x_t[i : i + 1] * (process.signal[1] if s == 0 else 1.0)
        hat = denoise(start, jnp.array([max(s, 1)]))
        x_0_hat = x_t[i] if s == 0 else hat.x_0[0]
        expected = process.signal[s + 1] * x_0_hat + process.noise[s + 1] * hat.eps[0]
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-6)
    x = x_t
    for s in range(T):
        x = encode_step(process, denoise, x, jnp.full(3, s))
    np.testing.assert_allclose(encode(process, denoise, x_t), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "size"),
    [
        (lambda n: vp(schedules.cosine(128)[:: 128 // n]), 1.0),
        (lambda n: ve(np.concatenate([[0.0], np.geomspace(0.5 / n, 50.0, n)])), 50.0),
    ],
    ids=["preserving", "exploding"],
)
def test_inversion_approaches_the_flow_with_first_order(levels, size):
    """Four times the steps: about a quarter of the error of the noise found, and of the image made from it again."""
    x_0, errors = GAUSSIAN.draw(jax.random.key(8), N), []
    for n in (32, 128):
        process = levels(n)
        denoise = GAUSSIAN.denoiser(process)
        x_T = jax.jit(lambda x, p=process, d=denoise: encode(p, d, x))(x_0)
        back = jax.jit(lambda x, p=process, d=denoise: decode(p, d, x))(x_T)
        exact = GAUSSIAN.flow(process, x_0, 0, n)
        errors.append((rms(np.float64(x_T) - exact) / size, rms(np.float64(back) - np.float64(x_0))))
    (found, again), (found_finer, again_finer) = errors
    assert 3 < found / found_finer < 6 and 3 < again / again_finer < 6
    assert found_finer < 0.02 and again_finer < 0.05
