"""From a network's output to x_0 and to the reverse step; and the worlds whose denoisers are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from diffusion.core import parameterization, reverse_process, schedules, variance
from diffusion.core.forward_process import Noised, q_posterior, q_sample, vp
from diffusion.core.reverse_process import clip, from_network, network_time, reverse, split
from tests.support.worlds import GAUSSIAN, MIXTURE, GaussianWorld, MixtureWorld, cases, float64

ULP = 2.0**-23
T = 20
CASES = {case.name: case for case in cases(T)}
PARAMETERIZATIONS = [parameterization.eps, parameterization.x_0, parameterization.mu, parameterization.v]
EVERY_T = np.arange(1, T + 1)


@pytest.fixture(autouse=True, scope="module")
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def images(key: int, n: int = T) -> jax.Array:
    return jax.random.normal(jax.random.key(key), (n, 2, 1, 3))


def test_the_network_sees_t_minus_1():
    """Published networks were trained on 0..T-1."""
    t = jnp.array([1, 2, 1000])
    np.testing.assert_array_equal(network_time(vp(schedules.linear(1000)), t), [0.0, 1.0, 999.0])
    seen = []

    def network(x_t, time):
        seen.append(time)
        return jnp.broadcast_to(time[:, None, None, None], x_t.shape)

    process = CASES["linear"].process
    prediction = from_network(process, parameterization.x_0, network)(images(0, 3), jnp.array([1, 7, 20]))
    np.testing.assert_array_equal(seen[0], [0.0, 6.0, 19.0])
    np.testing.assert_array_equal(prediction.x_0[:, 0, 0, 0], [0.0, 6.0, 19.0])
    halved = process._replace(time=process.time / 2)
    from_network(halved, parameterization.x_0, network)(images(0, 3), jnp.array([1, 7, 20]))
    np.testing.assert_array_equal(seen[1], [0.0, 3.0, 9.5])


def test_split():
    out = jnp.arange(12.0).reshape(1, 2, 6)
    mean, raw_var = split(out, 3)
    np.testing.assert_array_equal(mean, out[..., :3])
    np.testing.assert_array_equal(raw_var, out[..., 3:])
    mean, raw_var = split(out, 6)
    np.testing.assert_array_equal(mean, out)
    assert raw_var is None
    for channels in (1, 2, 4, 5, 12):
        with pytest.raises(ValueError, match=f"must output {channels} or {2 * channels}, not 6"):
            split(out, channels)


@pytest.mark.parametrize("name", CASES)
def test_predictions_agree_with_x_t(name):
    """x_t = signal x_0 + noise eps, for any output of any parameterisation, clipped or not."""
    process = CASES[name].process
    t, x_t = jnp.asarray(EVERY_T), 3 * images(1)
    raw = images(2)

    @jax.jit
    def recombined(p_index_out):
        found = []
        for p in PARAMETERIZATIONS:
            denoise = from_network(process, p, lambda x, time: jnp.concatenate([p_index_out, raw], axis=-1))  # noqa: ARG005
            for d in (denoise, clip(process, denoise)):
                prediction = d(x_t, t)
                found.append((q_sample(process, prediction.x_0, t, prediction.eps), prediction.x_0, prediction.raw_var))
        return found

    tables = float64(process)
    for again, x_0, raw_var in recombined(images(3)):
        scale = np.abs(x_t) + tables.signal[EVERY_T, None, None, None] * np.abs(x_0)
        assert (np.abs(again - x_t) <= 8 * ULP * scale).all()
        np.testing.assert_array_equal(raw_var, raw)


def test_clip():
    process = CASES["cosine"].process
    t, x_t = jnp.asarray(EVERY_T), images(4)
    denoise = from_network(process, parameterization.eps, lambda x, time: 2 * x)  # noqa: ARG005
    free, clipped = denoise(x_t, t), clip(process, denoise)(x_t, t)
    np.testing.assert_array_equal(clipped.x_0, np.clip(free.x_0, -1, 1))
    inside = np.abs(free.x_0) <= 1
    assert inside.any()
    assert not inside.all()
    np.testing.assert_array_equal(np.asarray(clipped.eps)[inside], np.asarray(free.eps)[inside])
    assert (np.asarray(clipped.eps)[~inside] != np.asarray(free.eps)[~inside]).all()
    np.testing.assert_array_equal(clip(process, denoise, -0.2, 0.3)(x_t, t).x_0, np.clip(free.x_0, -0.2, 0.3))


@pytest.mark.parametrize("name", CASES)
def test_reverse_is_the_posterior_at_x_0_hat(name):
    process = CASES[name].process
    t, x_t, x_0 = jnp.asarray(EVERY_T), images(5), images(6)
    raw_var = images(7)
    prediction = parameterization.Prediction(x_0, parameterization.to_eps(process, x_0, x_t, t), raw_var)
    for chosen in (variance.fixed_small, variance.fixed_large, variance.learned, variance.learned_range):
        p = reverse(process, chosen, prediction, x_t, t)
        np.testing.assert_array_equal(p.mean, q_posterior(process, x_0, x_t, t).mean)
        log_var = chosen(process, t, raw_var)
        np.testing.assert_array_equal(p.log_var, log_var.reshape(log_var.shape + (1,) * (4 - log_var.ndim)))
    small = reverse(process, variance.fixed_small, prediction, x_t, t)
    np.testing.assert_array_equal(small.log_var, q_posterior(process, x_0, x_t, t).log_var)


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=["eps", "x_0", "mu", "v"])
def test_every_network_is_read_with_its_base_process_on_a_respaced_chain(p):
    """A perfect network of the base process, asked at base_t[k], gives x_0 on the respaced chain."""
    alpha_bar = schedules.linear(T, 0.01, 0.75)
    ts = np.array([0, 3, 9, 15, 20])
    base, chain = vp(alpha_bar), vp(alpha_bar[ts], base_t=ts)
    k = jnp.arange(1, 5)
    x_0, eps = images(8, 4), images(9, 4)

    @jax.jit
    def run():
        x_t = q_sample(chain, x_0, k, eps)
        perfect = from_network(base, p, lambda x, time: p.target(base, Noised(x_0, eps, x, chain.base_t[k])))  # noqa: ARG005
        return perfect(x_t, chain.base_t[k])

    found = run()
    gain = np.float64(p.gain(base, chain.base_t[k])).reshape(4, 1, 1, 1)
    assert (np.abs(found.x_0 - x_0) <= 8 * ULP * (4 + 4 * gain)).all()  # as in the round trips; values are below 4


def test_a_mu_network_read_with_the_respaced_process_would_be_wrong():
    """mu is the mean of a neighbouring step: which step, the base process knows alone."""
    alpha_bar = schedules.linear(T, 0.01, 0.75)
    ts = np.array([0, 3, 9, 15, 20])
    base, chain = vp(alpha_bar), vp(alpha_bar[ts], base_t=ts)
    k = jnp.array([2, 3, 4])
    x_0, eps = images(8, 3), images(9, 3)
    x_t = q_sample(chain, x_0, k, eps)
    out = parameterization.mu.target(base, Noised(x_0, eps, x_t, chain.base_t[k]))
    wrong = reverse_process.interpret(chain, parameterization.mu, out, None, x_t, k)
    assert np.abs(wrong.x_0 - x_0).max() > 0.1


# The worlds.


def density(x: float, mean: float, std: float) -> float:
    return math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def expectation(world: MixtureWorld, signal: float, noise: float, x_t: float) -> tuple[float, float]:
    """(E[x_0 | x_t], q(x_t)) of a one-dimensional mixture by quadrature."""

    def joint(x_0):
        parts = zip(*world, strict=True)
        return sum(w * density(x_0, m[0], s[0]) for w, m, s in parts) * density(x_t, signal * x_0, noise)

    # the integrand lives where the data are, and at small t in a peak of width noise around x_t / signal
    points = [x for x in (*world.mean[:, 0], x_t / signal) if -4 < x < 4]
    options = {"points": sorted(points), "limit": 200, "epsabs": 1e-12}
    mass, _ = integrate.quad(joint, -4, 4, **options)
    return integrate.quad(lambda x: x * joint(x), -4, 4, **options)[0] / mass, mass


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "world",
    [
        MixtureWorld(np.array([0.4, 0.6]), np.array([[-0.6], [0.5]]), np.array([[0.1], [0.3]])),
        GaussianWorld(np.array([0.4]), np.array([0.3])),
    ],
    ids=["mixture", "gaussian"],
)
def test_the_worlds_know_the_posterior_mean(name, world):
    process = CASES[name].process
    t = np.array([1, 5, 12, 20])
    tables = float64(process)
    x_t = tables.signal[t] * 0.2 + tables.noise[t] * np.array([0.3, -1.0, 0.8, 1.5])
    found = jax.jit(world.denoiser(process))(np.float32(x_t)[:, None], np.int32(t))
    mixture = world if isinstance(world, MixtureWorld) else MixtureWorld(np.ones(1), world.mean[None], world.std[None])
    for i in range(4):
        mean, density = expectation(mixture, tables.signal[t[i]], tables.noise[t[i]], x_t[i])
        assert float(found.x_0[i, 0]) == pytest.approx(mean, rel=1e-5, abs=1e-6)
        assert mixture.log_density(process, x_t[i : i + 1, None], t[i])[0] == pytest.approx(np.log(density), abs=1e-6)
        if isinstance(world, GaussianWorld):
            slope, offset, _ = world.posterior(process, t[i])
            assert slope[0] * x_t[i] + offset[0] == pytest.approx(mean, rel=1e-6)


def test_the_worlds_draw_what_they_say():
    for world, (mean, var) in ((GAUSSIAN, (GAUSSIAN.mean, GAUSSIAN.std**2)), (MIXTURE, MIXTURE.moments())):
        x_0 = np.float64(jax.jit(world.draw, static_argnums=1)(jax.random.key(0), 20_000))
        assert (np.abs(x_0.mean(axis=0) - mean) < 4 * np.sqrt(var / 20_000)).all()
        fourth = ((x_0 - mean) ** 4).mean(axis=0)
        assert (np.abs(((x_0 - mean) ** 2).mean(axis=0) - var) < 4 * np.sqrt((fourth - var**2) / 20_000)).all()


@pytest.mark.parametrize("name", CASES)
def test_the_flow_carries_marginal_to_marginal(name):
    process = CASES[name].process
    x = np.array([[0.3, -1.0, 2.0]])
    there = GAUSSIAN.flow(process, x, T, 7)
    np.testing.assert_allclose(GAUSSIAN.flow(process, there, 7), GAUSSIAN.flow(process, x, T), rtol=1e-9)
    np.testing.assert_allclose(GAUSSIAN.flow(process, x, 5, 5), x)
    mean, var = GAUSSIAN.marginal(process, T)
    one_sigma = GAUSSIAN.flow(process, mean + np.sqrt(var), T)
    np.testing.assert_allclose(one_sigma, GAUSSIAN.mean + GAUSSIAN.std, rtol=1e-9)


@pytest.mark.parametrize("t", [50, 300, 700, 990])
def test_the_flow_follows_the_score(t):
    """d(x / signal) / d(noise / signal) = eps_hat: over a thousandth of the way, a straight step errs by its square."""
    process = vp(schedules.linear(1000))
    p = float64(process)
    x = np.array([0.3, -1.0, 2.0])
    slope, offset, _ = GAUSSIAN.posterior(process, t)
    x_0_hat = slope * x + offset
    eps_hat = (x - p.signal[t] * x_0_hat) / p.noise[t]
    straight = p.signal[t - 1] * x_0_hat + p.noise[t - 1] * eps_hat
    exact = GAUSSIAN.flow(process, x, t, t - 1)
    assert np.abs(straight - exact).max() < 0.03 * np.abs(exact - x).max()
