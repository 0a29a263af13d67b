"""EDM's choices (Karras et al. 2022, table 1): levels, preconditioning, weight and density against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffusion.config import default_config
from diffusion.core import parameterization, respacing, schedules, timesteps, weighting
from diffusion.core.forward_process import Noised, flow, q_sample, ve, vp
from diffusion.core.reverse_process import from_network, network_input, network_time
from diffusion.experiment import build
from diffusion.experiment.registry_of_samplers_and_schedules import timed
from tests.support.worlds import GaussianWorld

SIGMA_DATA = 0.5
T = 40
SIGMA = np.array(
    [(0.002 ** (1 / 7) + (i - 1) / (T - 1) * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7 for i in range(1, T + 1)]
)
"""sigma[1..T], eq. 5 with its counting turned round."""
PROCESS = ve(schedules.karras(T), sigma_data=SIGMA_DATA)
EVERY_T = jnp.arange(1, T + 1)
PROCESSES = {
    "karras": PROCESS,
    "linear": vp(schedules.linear(T, 0.01, 0.75), sigma_data=SIGMA_DATA),
    "rectified": flow(schedules.rectified(T), sigma_data=SIGMA_DATA),
}


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_levels():
    np.testing.assert_allclose(schedules.karras(T), [0, *SIGMA], rtol=1e-12)
    eighteen = [80.0, 57.586, 40.786, 28.375, 19.353, 12.910, 8.4009, 5.3152, 3.2568, 1.9233, 1.0884, 0.5853, 0.2964]
    eighteen += [0.1395, 0.0599, 0.0230, 0.0075, 0.0020]  # the published sampler's 18 steps, as it prints them
    np.testing.assert_allclose(schedules.karras(18)[:0:-1], eighteen, rtol=8e-3)
    assert schedules.karras(1).tolist() == pytest.approx([0, 80.0])
    for rho in (0.5, 1.0, 3.0):
        np.testing.assert_allclose(np.diff(schedules.karras(9, 0.1, 9.0, rho)[1:] ** (1 / rho), 2), 0, atol=1e-9)
    with pytest.raises(ValueError, match=r"sigma_1 = 2 must be below sigma_T = 1"):
        schedules.karras(5, 2.0, 1.0)
    with pytest.raises(ValueError, match="rho = 0 must be positive"):
        schedules.karras(5, rho=0.0)


def test_preconditioning():
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), each from its row of table 1 in float64."""
    c_skip, c_out = SIGMA_DATA**2 / (SIGMA**2 + SIGMA_DATA**2), SIGMA * SIGMA_DATA / np.sqrt(SIGMA**2 + SIGMA_DATA**2)
    c_in, c_noise = 1 / np.sqrt(SIGMA_DATA**2 + SIGMA**2), np.log(SIGMA) / 4
    config = default_config()
    config.net.time = "log_noise"
    process, ones = timed(config, PROCESS), jnp.ones((T, 3))
    out = parameterization.edm.to_x_0
    zeros = jnp.zeros((T, 3))
    np.testing.assert_allclose(out(process, zeros, ones, EVERY_T)[:, 0], c_skip, rtol=1e-6)
    np.testing.assert_allclose(out(process, ones, zeros, EVERY_T)[:, 0], c_out, rtol=1e-6)
    np.testing.assert_allclose(parameterization.edm.gain(process, EVERY_T), c_out, rtol=1e-6)
    np.testing.assert_allclose(network_input(process, ones, EVERY_T)[:, 0], c_in, rtol=1e-6)
    np.testing.assert_allclose(network_time(process, EVERY_T), c_noise, rtol=1e-6, atol=1e-7)
    weight = weighting.edm(process, parameterization.eps, EVERY_T)
    np.testing.assert_allclose(weight, (SIGMA**2 + SIGMA_DATA**2) / (SIGMA * SIGMA_DATA) ** 2, rtol=1e-6)
    seen = []

    def network(x: jax.Array, time: jax.Array) -> jax.Array:
        seen.append((x, time))
        return zeros

    denoise = from_network(process, parameterization.edm, network)
    np.testing.assert_allclose(denoise(ones, EVERY_T).x_0[:, 0], c_skip, rtol=1e-6)
    np.testing.assert_allclose(seen[0][0][:, 0], c_in, rtol=1e-6)
    np.testing.assert_allclose(seen[0][1], c_noise, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PROCESSES)
def test_output_0_is_the_exact_denoiser_of_gaussian_data(name):
    """For data of standard deviation sigma_data, E[x_0 | x_t] is c_skip x_t / signal: nothing is left to learn."""
    process, world = PROCESSES[name], GaussianWorld(np.zeros(3), np.full(3, SIGMA_DATA))
    x_t = jax.random.normal(jax.random.key(0), (T, 3)) / process.scale[1:, None]
    found = parameterization.edm.to_x_0(process, jnp.zeros((T, 3)), x_t, EVERY_T)
    np.testing.assert_allclose(found, world.denoiser(process)(x_t, EVERY_T).x_0, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_targets_have_unit_variance_and_keep_full_precision(name):
    process, n = PROCESSES[name], 2000
    x_0, eps = jax.random.normal(jax.random.key(1), (2, T, n))
    x_0 = x_0 * SIGMA_DATA
    x_t = q_sample(process, x_0, EVERY_T, eps)
    target = np.float64(parameterization.edm.target(process, Noised(x_0, eps, x_t, EVERY_T)))
    np.testing.assert_allclose(target.std(axis=1), 1, atol=6 / np.sqrt(2 * n))
    signal, noise = np.float64(process.signal[1:, None]), np.float64(process.noise[1:, None])
    spread = np.sqrt(signal**2 * SIGMA_DATA**2 + noise**2)
    exact = (noise / SIGMA_DATA * np.float64(x_0) - SIGMA_DATA * signal * np.float64(eps)) / spread
    np.testing.assert_allclose(target, exact, atol=2e-6)
    weight = weighting.edm(process, parameterization.edm, EVERY_T) * parameterization.edm.gain(process, EVERY_T) ** 2
    np.testing.assert_allclose(weight, 1, rtol=1e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_lognormal_density(name):
    """t has the mass of N(P_mean, P_std^2) between the midpoints of log(noise / signal); for a flow it is logit u."""
    process, n = PROCESSES[name], 40_000
    some = timesteps.lognormal(process, -0.4, 0.9)
    t, weight = some.sample(jax.random.key(0), some.init(), n)
    assert t.dtype == jnp.int32 and (np.asarray(weight) == 1).all()
    with np.errstate(divide="ignore"):
        levels = np.log(np.float64(process.noise[1:])) - np.log(np.float64(process.signal[1:]))
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    mass = np.diff(stats.norm.cdf(edges, -0.4, 0.9))
    counts = np.bincount(np.asarray(t), minlength=T + 1)[1:]
    likely = mass * n > 5
    observed, expected = [*counts[likely], counts[~likely].sum()], [*mass[likely] * n, mass[~likely].sum() * n]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", PROCESSES)
def test_karras_grid(name):
    """Each step is the nearest, in noise / signal, to a level of eq. 5 between the first and the last."""
    process = PROCESSES[name]
    with np.errstate(divide="ignore"):
        sigma = np.float64(process.noise) / np.float64(process.signal)
    top = sigma[np.isfinite(sigma)][-1]
    wanted = [(top ** (1 / 7) + i / 8 * (sigma[1] ** (1 / 7) - top ** (1 / 7))) ** 7 for i in range(9)]
    found = respacing.parse("karras9")(sigma)
    assert set(found) == {0, T} | {1 + min(range(T), key=lambda i: abs(sigma[i + 1] - w)) for w in wanted[1:]}
    assert respacing.parse("karras40")(np.float64(PROCESS.noise)).tolist() == list(range(T + 1))
    for n in (0, 41):
        with pytest.raises(ValueError, match=rf"cannot take {n} steps from a process of 40; take 1..40"):
            respacing.parse(f"karras{n}")(sigma)


def test_the_config_reaches_all_of_it():
    config = default_config()
    config.diffusion.update(schedule="ve_karras", sigma_1=0.002, sigma_T=80.0, parameterization="edm", T=T)
    config.diffusion.sigma_data = SIGMA_DATA
    config.net.update(time="log_noise", channels=8, multipliers=(1,), attention=())
    config.objective.update(name="edm", timesteps="lognormal", P_mean=2.0, P_std=0.1)
    config.sample.update(sampler="edm", grid="karras9")
    experiment = build.experiment(config, (8, 8, 1), 10)
    np.testing.assert_allclose(experiment.process.noise[1:], SIGMA, rtol=1e-6)
    np.testing.assert_allclose(experiment.process.time[1:], np.log(SIGMA) / 4, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(experiment.process.scale[1:], (SIGMA**2 + 0.25) ** -0.5, rtol=1e-6)
    assert experiment.parameterization is parameterization.edm
    assert experiment.sampled().base_t[-1] == T and 5 < experiment.sampled().T <= 9
    task = experiment.task()
    t, _ = task.timesteps.sample(jax.random.key(0), (), 1000)
    assert abs(np.log(SIGMA)[np.asarray(t) - 1].mean() - 2.0) < 0.1
    assert task.objective.weight is weighting.edm
    config.diffusion.rho = 1.0
    np.testing.assert_allclose(np.diff(np.float64(build.levels(config).noise[1:])), 79.998 / 39, rtol=1e-4)
