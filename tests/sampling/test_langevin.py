"""Langevin dynamics, predictor-corrector, reverse diffusion and Euler's probability flow: their exact laws in solved
worlds, the order at which those approach the data's, and what each has in common with DDPM's and DDIM's chains."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import schedules, variance
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import Process, q_step, ve, vp
from diffusion.core.parameterization import Prediction
from diffusion.core.score import score
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.langevin import annealed_langevin, climb
from diffusion.sampling.predictor_corrector import by_noise, predictor_corrector
from diffusion.sampling.probability_flow import probability_flow
from diffusion.sampling.reverse_sde import reverse_diffusion
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, MIXTURE, cases, float64

T = 20
CASES = {case.name: case.process for case in cases(T)}
N = 4096


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def stacked(*some: Process) -> Process:
    """Processes as one, for vmap: one compiled program serves all."""
    return jax.tree.map(lambda *tables: jnp.stack(tables), *some)


def chains(make, processes: Process, world=GAUSSIAN, n: int = N) -> np.ndarray:
    """[processes, n, 3]: what a sampler makes with the optimal denoiser."""

    def chain(process: Process) -> jax.Array:
        keys = image_keys(7, jnp.arange(n))
        return sample(keys, process, make(process), world.denoiser(process), prior_sample(keys, process, (3,))).x_0

    return np.float64(jax.jit(jax.vmap(chain))(processes))


def assert_law(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> None:
    """4 standard errors of the mean and variance of independent Gaussian samples."""
    assert (np.abs(x.mean(axis=0) - mean) < 4 * np.sqrt(var / len(x)) + 1e-5).all()
    assert (np.abs(x.var(axis=0, ddof=1) - var) < 4 * var * np.sqrt(2 / len(x)) + 1e-5).all()


def spread_error(process: Process, law) -> float:
    """The largest relative error of a standard deviation of the law that a chain ends in."""
    return float(np.abs(np.sqrt(law(process)[1]) / GAUSSIAN.std - 1).max())


# --------------------------------------------------------------------------------------------- one level, h given


def ula_law(process: Process, t: int, h: float, n: int, mean, var) -> tuple[np.ndarray, np.ndarray]:
    """Exact moments after n steps x <- x + h score + sqrt(2 h) z from N(mean, var), by recursion."""
    centre, level = GAUSSIAN.marginal(process, t)
    keep = 1 - h / level
    for _ in range(n):
        mean, var = centre + keep * (mean - centre), keep**2 * var + 2 * h
    return mean, var


@pytest.mark.parametrize("name", ["cosine", "geometric"])
def test_unadjusted_langevin_at_one_level_has_its_exact_law(name):
    process, t, n = CASES[name], 8, 25
    noise = float(process.noise[t])

    @jax.jit
    def run(share):
        keys, ts = image_keys(1, jnp.arange(N)), jnp.full(N, t)
        start = jnp.full((N, 3), 0.7)
        h, denoise = jnp.full(N, share * noise**2), GAUSSIAN.denoiser(process)

        def step(j, x):
            return climb(x, score(process, denoise(x, ts), ts), h, normal(fold(keys, j), x))

        return jax.lax.fori_loop(0, n, step, start)

    for share in (0.05, 0.5):
        found = np.float64(run(share))
        assert_law(found, *ula_law(process, t, share * noise**2, n, 0.7, 0.0))


def test_its_stationary_law_is_off_to_first_order():
    """V / (1 - h / 2V): half the step, half the excess variance. The recursion was just met by samples."""
    process, t = CASES["cosine"], 8
    _, level = GAUSSIAN.marginal(process, t)
    shares = np.array([0.4, 0.2, 0.1])
    excess = []
    for h in shares * float(process.noise[t]) ** 2:
        mean, var = ula_law(process, t, h, 4000, np.zeros(3), np.ones(3))
        np.testing.assert_allclose(mean, GAUSSIAN.marginal(process, t)[0], atol=1e-9)
        np.testing.assert_allclose(var, level / (1 - h / (2 * level)), rtol=1e-9)
        excess.append(var / level - 1)
    orders = np.log2(np.array(excess[:-1]) / np.array(excess[1:]))
    assert ((orders > 1) & (orders < 1.2)).all()


# ------------------------------------------------------------------------------------------------ annealed Langevin


def annealed_law(process: Process, n: int, snr: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact moments at the end of the chain, by recursion; the last step is the posterior mean."""
    p, share = float64(process), min(2 * snr**2, 1)
    mean, var = np.zeros(3), np.full(3, np.exp(p.prior_log_var))
    for t in range(process.T, 0, -1):
        mean, var = ula_law(process, t, share * p.noise[t] ** 2, n - (t == 1), mean, var)
        growth = p.signal[t - 1] / p.signal[t] if t > 1 and p.signal[t] > 0 else 1.0
        mean, var = growth * mean, growth**2 * var
    slope, offset, _ = GAUSSIAN.posterior(process, 1)
    return slope * mean + offset, slope**2 * var


@pytest.mark.parametrize(("n", "snr"), [(3, 0.5), (2, 0.9)])
def test_annealed_langevin_has_its_exact_law(n, snr):
    """For all processes; 0.9 meets the bound on h."""
    found = chains(lambda process: annealed_langevin(process, n, snr), stacked(*CASES.values()))
    for x, process in zip(found, CASES.values(), strict=True):
        assert_law(x, *annealed_law(process, n, snr))


@pytest.mark.parametrize("name", ["cosine", "geometric"])
def test_annealed_langevin_approaches_the_data(name):
    """What is left of the lag falls as steps are added, levels or steps at each level.

    It freezes at the noise level where the steps left, n h / V summed, are of order one. Below a level s there are of
    order T of them with h / V = s^2 if levels are geometric: s^2 falls as 1 / T. If levels are linear there are s T:
    s^3 falls as 1 / T, and the excess s^2 as T^(-2/3).
    """
    levels = {
        "cosine": lambda steps: vp(schedules.cosine(steps)),
        "geometric": lambda steps: ve(np.concatenate([[0.0], np.geomspace(1e-3, 50.0, steps)])),
    }[name]
    by_levels = [spread_error(levels(steps), lambda p: annealed_law(p, 4, 0.3)) for steps in (100, 200, 400, 800)]
    by_steps = [spread_error(levels(100), lambda p, n=n: annealed_law(p, n, 0.3)) for n in (4, 8, 16, 32)]
    for errors in (by_levels, by_steps):
        assert all(a > b for a, b in pairwise(errors))
        assert errors[-1] < 0.3 * errors[0]
    rate = np.log2(by_levels[1] / by_levels[3]) / 2
    assert rate == pytest.approx({"cosine": 2 / 3, "geometric": 1}[name], rel=0.1)


def test_the_last_of_all_steps_is_tweedies():
    """No noise in what is returned: the same x_1 gives the same x_0, which is x_0_hat."""
    process = CASES["geometric"]
    x_1, denoise = jax.random.normal(jax.random.key(3), (4, 3)), GAUSSIAN.denoiser(process)
    one = jnp.ones(4, jnp.int32)
    found, _ = annealed_langevin(process, 1, 0.3).step(image_keys(0, jnp.arange(4)), (), x_1, one, denoise)
    np.testing.assert_allclose(found, denoise(x_1, one).x_0, rtol=1e-6)


# ---------------------------------------------------------------------------------------------- predictor-corrector


@pytest.mark.parametrize("predictor", [dpm_solver, lambda p: ancestral(p, variance.fixed_large)])
def test_without_steps_it_is_the_predictor(predictor):
    processes = stacked(*CASES.values())
    plain = chains(predictor, processes, n=16)
    wrapped = chains(
        lambda process: predictor_corrector(process, predictor(process), 0, by_noise(process, 0.16)), processes, n=16
    )
    np.testing.assert_allclose(wrapped, plain, rtol=1e-5, atol=1e-5)
    changed = chains(
        lambda process: predictor_corrector(process, predictor(process), 1, by_noise(process, 0.16)), processes, n=16
    )
    assert (changed != plain).all()


def test_the_length_of_a_step():
    """The published rule 2 a^2 (snr |z| / |score|)^2 for an eps_hat and a z with the norms of noise; never more than
    Tweedie's step. Where there are many dimensions the expected norms are the measured ones.
    """
    for process in CASES.values():
        t = jnp.arange(1, T + 1)
        eps, z = np.float64(jax.random.normal(jax.random.key(6), (2, T, 20_000)))
        p = float64(process)
        noise, a = p.noise[1:], p.signal[1:] / p.signal[:-1]
        ratio = np.linalg.norm(z, axis=1) / np.linalg.norm(eps / noise[:, None], axis=1)
        h = np.float64(by_noise(process, 0.2)(t))
        np.testing.assert_allclose(h, np.minimum(2 * (a * 0.2 * ratio) ** 2, noise**2), rtol=0.06)
        np.testing.assert_allclose(by_noise(process, 5.0)(t)[0], min(50 * a[0] ** 2, 1) * noise[0] ** 2, rtol=1e-5)


@pytest.mark.slow
def test_the_corrector_mends_what_the_predictor_missed():
    """20 DDIM steps miss the mixture's law; Langevin steps at each level bring it nearer."""
    explode = ve(np.concatenate([[0.0], np.geomspace(0.02, 50.0, T)]))
    processes = stacked(CASES["cosine"], vp(schedules.linear(T, 0.001, 0.6)), explode)
    real = np.float64(MIXTURE.draw(jax.random.key(8), N))
    found = {
        n: chains(lambda p, n=n: predictor_corrector(p, ddim(p), n, by_noise(p, 0.2)), processes, MIXTURE)
        for n in (0, 8)
    }
    for before, after in zip(found[0], found[8], strict=True):
        assert sliced_distance(after, real) < 0.75 * sliced_distance(before, real)


# ------------------------------------------------------------------------------------- score SDE's discretisations


def forward(process: Process, t: int) -> tuple[float, float]:
    """a and beta of the forward step, from the tables of q(x_t | x_0)."""
    p = float64(process)
    a = p.signal[t] / p.signal[t - 1]
    return a, p.noise[t] ** 2 - a**2 * p.noise[t - 1] ** 2


def in_x_0(process: Process, t: int, factor: float, length: float, var: float) -> tuple[float, float, float]:
    """factor x_t + length score + sqrt(var) z, said in x_0_hat and x_t."""
    p = float64(process)
    return length * p.signal[t] / p.noise[t] ** 2, factor - length / p.noise[t] ** 2, var


def reverse_law(process: Process) -> tuple[np.ndarray, np.ndarray]:
    def step(t: int):
        a, beta = forward(process, t)
        return in_x_0(process, t, 2 - a, beta, beta if t > 1 else 0.0)

    return GAUSSIAN.chain_law(process, step)


def flow_law(process: Process) -> tuple[np.ndarray, np.ndarray]:
    def step(t: int):
        a, beta = forward(process, t)
        return in_x_0(process, t, 1 + (1 - a**2) / 2, beta / 2, 0.0)

    return GAUSSIAN.chain_law(process, step)


LAWS = {"reverse_diffusion": (reverse_diffusion, reverse_law), "probability_flow": (probability_flow, flow_law)}


@pytest.mark.parametrize("name", LAWS)
def test_chains_have_their_exact_law(name):
    make, law = LAWS[name]
    found = chains(make, stacked(*CASES.values()))
    for x, process in zip(found, CASES.values(), strict=True):
        assert_law(x, *law(process))


def test_corrected_chains_have_their_exact_law():
    """Two Langevin steps before each step of reverse diffusion: affine steps, and all their noise is independent."""
    make = lambda p: predictor_corrector(p, reverse_diffusion(p), 2, by_noise(p, 0.3))  # noqa: E731
    found = chains(make, stacked(*CASES.values()))
    for x, process in zip(found, CASES.values(), strict=True):
        p = float64(process)
        mean, var = np.zeros(3), np.full(3, np.exp(p.prior_log_var))
        for t in range(p.T, 0, -1):
            level_mean, level_var = GAUSSIAN.marginal(process, t)
            a, beta = forward(process, t)
            h = min(2 * (a * 0.3) ** 2, 1.0) * p.noise[t] ** 2
            for factor, length, added in ((1, h, 2 * h), (1, h, 2 * h), (2 - a, beta, beta * (t > 1))):
                slope = factor - length / level_var
                mean, var = slope * mean + length / level_var * level_mean, slope**2 * var + added
        assert_law(x, mean, var)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("levels", ["linear", "cosine", "geometric"])
def test_laws_approach_the_data_with_first_order(name, levels):
    """Twice the steps, half the error of the spread; samples have met these laws above."""
    make = {
        "linear": lambda steps: vp(schedules.linear(steps, 0.1 / steps, 20 / steps)),
        "cosine": lambda steps: vp(schedules.cosine(steps)),
        # sigma[1] falls with the steps: the flow leaves noise of that size
        "geometric": lambda steps: ve(np.concatenate([[0.0], np.geomspace(1 / steps, 200.0, steps)])),
    }[levels]
    errors = [spread_error(make(steps), LAWS[name][1]) for steps in (200, 400, 800)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert ((orders > 0.8) & (orders < 1.25)).all()
    assert errors[-1] < 0.05


@pytest.mark.parametrize("levels", ["preserving", "exploding"])
def test_euler_follows_the_flow_with_first_order(levels, rng):
    """Of single paths, not of the law alone, between two fixed levels."""
    make = {
        "preserving": lambda n: vp(np.concatenate([[1.0], np.cos(np.linspace(0.1, 1.5, n + 1)) ** 2])),
        "exploding": lambda n: ve(np.concatenate([[0.0], np.geomspace(0.1, 20.0, n + 1)])),
    }[levels]
    z, errors = rng.normal(size=(16, 3)), []
    for n in (80, 160):
        process = make(n)
        mean, var = GAUSSIAN.marginal(process, n + 1)
        x, sampler = jnp.float32(mean + np.sqrt(var) * z), probability_flow(process)
        unused, denoise = image_keys(0, jnp.arange(16)), GAUSSIAN.denoiser(process)

        def step(i, x, sampler=sampler, denoise=denoise, n=n, unused=unused):
            return sampler.step(unused, (), x, jnp.full(16, n + 1 - i, jnp.int32), denoise)[0]

        found = np.float64(jax.jit(partial(jax.lax.fori_loop, 0, n, step))(x))
        errors.append(np.sqrt(np.mean((found - GAUSSIAN.flow(process, x, n + 1, 1)) ** 2)))
    assert 0.9 < np.log2(errors[0] / errors[1]) < 1.15


def test_pure_noise_is_left_where_it_is():
    """score = -x: no data yet, and a variance-preserving flow does not move; the published factor would."""
    process = vp(schedules.cosine(T))
    x, t = jax.random.normal(jax.random.key(5), (T, 3)), jnp.arange(1, T + 1)

    def denoise(x, t):
        return Prediction(jnp.zeros_like(x), x * process.noise[t][:, None], None)

    found, _ = probability_flow(process).step(image_keys(0, jnp.arange(T)), (), x, t, denoise)
    np.testing.assert_allclose(found, x, rtol=1e-5)
    a = np.float64(process.signal[1:] / process.signal[:-1])
    assert ((2 - a) - (1 - a**2) / 2 > 1).all() and (2 - a - (1 - a**2) / 2)[-1] > 1.4


def test_variance_exploding_reverse_diffusion_is_ancestral_with_the_large_variance():
    """The same images from the same keys."""
    process = stacked(CASES["geometric"], ve(schedules.constant(T, 3.0)))
    ours = chains(reverse_diffusion, process, n=16)
    theirs = chains(lambda p: ancestral(p, variance.fixed_large), process, n=16)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_single_steps_agree_with_ancestral_and_ddim_to_first_order():
    """The means of reverse diffusion and ancestral sampling, Euler's flow and DDIM, differ by the square of beta."""
    gaps = []
    for beta in (0.02, 0.01):
        for process in (
            vp(np.array([1.0, 0.5, 0.5 * (1 - beta)])),
            ve(np.array([0.0, 1.0, np.sqrt(1 + beta)])),
        ):
            x, t = 1.5 + jnp.zeros((1, 3)), jnp.array([2])
            keys, denoise = image_keys(0, jnp.arange(1)), GAUSSIAN.denoiser(process)

            def mean(sampler, x=x, t=t, keys=keys, denoise=denoise, var=0.0):
                return np.float64(sampler.step(keys, (), x, t, denoise)[0] - np.sqrt(var) * normal(keys, x))

            step = np.exp(np.float64(q_step(process, x, t).log_var))
            by_chain = mean(reverse_diffusion(process), var=step) - mean(
                ancestral(process, variance.fixed_large), var=np.exp(np.float64(process.log_beta[2]))
            )
            by_flow = mean(probability_flow(process)) - mean(ddim(process))
            gaps.append((np.abs(by_chain).max(), np.abs(by_flow).max()))
    (vp_wide, ve_wide, vp_fine, ve_fine) = gaps
    assert 3.3 < vp_wide[0] / vp_fine[0] < 4.7 and ve_wide[0] < 1e-5
    assert 3.3 < vp_wide[1] / vp_fine[1] < 4.7 and 3.3 < ve_wide[1] / ve_fine[1] < 4.7


# --------------------------------------------------------------------------------------------- the mixture, as a whole

DIRECTIONS = np.random.default_rng(1).normal(size=(64, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)


def sliced_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Root mean square over 64 directions of the Wasserstein-2 distances of the projections, for sets of one size."""
    a, b = (np.sort(some @ DIRECTIONS.T, axis=0) for some in (x, y))
    return float(np.sqrt(np.mean((a - b) ** 2)))


LONG = 300
SAMPLERS = {
    "annealed_langevin": lambda p: annealed_langevin(p, 4, 0.3),
    "predictor_corrector": lambda p: predictor_corrector(p, ancestral(p, variance.fixed_small), 1, by_noise(p, 0.16)),
    "reverse_diffusion": reverse_diffusion,
    "probability_flow": probability_flow,
}


SLOW = ("annealed_langevin", "predictor_corrector")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SAMPLERS])
def test_samplers_end_in_the_law_of_the_mixture(name):
    """Sliced Wasserstein distance to draws of the world below 0.05, where its standard deviation is about 0.5 and two
    sets of draws are 0.022 apart; each component has its share."""
    processes = stacked(vp(schedules.cosine(LONG)), ve(np.concatenate([[0.0], np.geomspace(0.005, 50.0, LONG)])))
    for x in chains(SAMPLERS[name], processes, MIXTURE):
        real = np.float64(MIXTURE.draw(jax.random.key(9), N))
        assert sliced_distance(x, real) < 0.05
        z = (x[:, None] - MIXTURE.mean) / MIXTURE.std
        nearest = np.argmin(np.sum(z**2, axis=2) + 2 * np.log(MIXTURE.std).sum(axis=1), axis=1)
        shares = np.bincount(nearest, minlength=3) / N
        z = (real[:, None] - MIXTURE.mean) / MIXTURE.std
        expected = np.bincount(np.argmin(np.sum(z**2, axis=2) + 2 * np.log(MIXTURE.std).sum(axis=1), axis=1)) / N
        assert np.abs(shares - expected).max() < 0.04
