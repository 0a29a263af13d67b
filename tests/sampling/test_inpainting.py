"""Inpainting: identities, the exact law of every number of resamplings, and its limit, the exact conditional."""

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import variance
from diffusion.core.array_types import fold, normal
from diffusion.core.forward_process import q_posterior, ve, vp
from diffusion.core.parameterization import Prediction, to_eps
from diffusion.core.schedules import geometric, linear
from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.heun import heun
from diffusion.sampling.inpainting import inpaint, inpainting
from diffusion.sampling.sampling_loop import Sampler, image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, cases, float64

T = 20
N, D = 16, 3
MANY = 8192
CASES = {case.name: case.process for case in cases(T)}
P = CASES["cosine"]
SAMPLERS = {
    "ancestral": lambda p: ancestral(p, variance.fixed_small),
    "ddim": ddim,
    "dpm_solver": dpm_solver,
    "heun": heun,
}
FINE = {"vp": vp(linear(40, 1e-3, 0.35)), "ve": ve(geometric(40, 0.03, 10.0))}
"""Short chains whose first noise is small beside the conditional law that they are to find."""


class CorrelatedWorld(NamedTuple):
    """x_0 ~ N(mean, cov): what is known of an image tells about the rest."""

    mean: np.ndarray
    cov: np.ndarray

    def conditional(self, known: np.ndarray, x_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the unknown values given the known ones."""
        gain = self.cov[np.ix_(~known, known)] @ np.linalg.inv(self.cov[np.ix_(known, known)])
        cov = self.cov[np.ix_(~known, ~known)] - gain @ self.cov[np.ix_(known, ~known)]
        return self.mean[~known] + gain @ (x_0 - self.mean)[known], cov

    def posterior(self, process, t):
        """(slope, offset) of E[x_0 | x_t] = slope x_t + offset."""
        p = float64(process)
        var = p.signal[t] ** 2 * self.cov + p.noise[t] ** 2 * np.eye(len(self.mean))
        slope = p.signal[t] * self.cov @ np.linalg.inv(var)
        return slope, self.mean - p.signal[t] * slope @ self.mean

    def denoiser(self, process):
        """The optimal denoiser."""
        p = float64(process)
        found = [self.posterior(p, t) for t in range(1, p.T + 1)]
        slope, offset = (jnp.asarray(np.stack([f[i] for f in found])[[0, *range(p.T)]]) for i in (0, 1))
        slope, offset = slope.astype(jnp.float32), offset.astype(jnp.float32)

        def denoise(x_t, t):
            x_0 = jnp.einsum("bij,bj->bi", slope[t], x_t) + offset[t]
            return Prediction(x_0, to_eps(process, x_0, x_t, t), None)

        return denoise


WORLD = CorrelatedWorld(np.array([0.4, -0.2, 0.1]), np.array([[0.5, 0.35, -0.2], [0.35, 0.6, -0.1], [-0.2, -0.1, 0.3]]))
KNOWN = np.array([True, False, False])
GIVEN = np.array([1.1, 0.0, 0.0])
"""A little more than a standard deviation from the mean; only the first value counts."""


def schedule(T, resamplings, jump):
    """Times visited, from T to 0, by the rule of the published code: down, and up again where jumps are left."""
    left = {1 + s: resamplings - 1 for s in range(0, T - jump, jump)}
    times = [T]
    while times[-1] > 0:
        times.append(times[-1] - 1)
        if left.get(times[-1], 0) > 0:
            left[times[-1]] -= 1
            times += range(times[-1] + 1, times[-1] + 1 + jump)
    return times


def fixed_small_cov(world, process, t):
    """Covariance of the ancestral step with fixed-small variance."""
    return (np.exp(np.float64(process.log_beta_tilde[t])) if t > 1 else 0.0) * np.eye(len(world.mean))


def exact_cov(world, process, t):
    """Cov[x_{t-1} | x_t] = beta_tilde I + c_x_0^2 Cov[x_0 | x_t]."""
    p = float64(process)
    slope, _ = world.posterior(process, t)
    return fixed_small_cov(world, process, t) + p.c_x_0[t] ** 2 * (world.cov - p.signal[t] * slope @ world.cov)


def law(world, process, known, x_0, resamplings=1, jump=1, step_cov=fixed_small_cov):
    """Mean and covariance of x_0 by inpainting with a sampler of the posterior mean and a covariance, in float64."""
    p, D = float64(process), len(x_0)
    slopes, offsets = zip(*(world.posterior(p, t) for t in range(1, p.T + 1)), strict=True)
    covs = [step_cov(world, p, t) for t in range(1, p.T + 1)]
    keep, free, eye = np.diag(1.0 * known), np.diag(1.0 * ~known), np.eye(len(x_0))
    mean = free @ np.zeros(D) + keep @ (p.signal[-1] * x_0)
    cov = np.exp(p.prior_log_var) * free + p.noise[-1] ** 2 * keep
    for t, s in pairwise(schedule(p.T, resamplings, jump)):
        if s > t:
            ratio = p.signal[s] / p.signal[t]
            mean, cov = ratio * mean, ratio**2 * cov + (p.noise[s] ** 2 - ratio**2 * p.noise[t] ** 2) * eye
            continue
        step = free @ (p.c_x_0[t] * slopes[s] + p.c_x_t[t] * eye)
        mean = step @ mean + free @ (p.c_x_0[t] * offsets[s]) + keep @ (p.signal[s] * x_0)
        cov = step @ cov @ step.T + free @ covs[s] @ free + p.noise[s] ** 2 * keep
    return mean, cov


def kl(mean, cov, other_mean, other_cov):
    """KL between two Gaussians, in nats."""
    inverse, error = np.linalg.inv(other_cov), mean - other_mean
    ratio = np.linalg.slogdet(cov)[1] - np.linalg.slogdet(other_cov)[1]
    return 0.5 * (np.trace(inverse @ cov) - len(mean) - ratio + error @ inverse @ error)


def distance(process, resamplings, jump=1, step_cov=exact_cov):
    """KL of the unknown values' law from the exact conditional."""
    mean, cov = law(WORLD, process, KNOWN, GIVEN, resamplings, jump, step_cov)
    return kl(mean[~KNOWN], cov[np.ix_(~KNOWN, ~KNOWN)], *WORLD.conditional(KNOWN, GIVEN))


def exact(process):
    """The sampler that draws q(x_{t-1} | x_t) itself, given the optimal denoiser; at t = 1 too it draws noise."""
    p = float64(process)
    covs = [exact_cov(WORLD, p, max(t, 1)) for t in range(p.T + 1)]
    roots = jnp.asarray(np.linalg.cholesky(np.stack(covs)), jnp.float32)

    def step(keys, state, x_t, t, denoise):
        mean = q_posterior(process, denoise(x_t, process.base_t[t]).x_0, x_t, t).mean
        return mean + jnp.einsum("bij,bj->bi", roots[t], normal(keys, x_t)), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005


def inpainted(process, sampler, jump=1, n=MANY, world=WORLD):
    """(resamplings) -> n draws of the unknown values given GIVEN; compiled once for all numbers of resamplings."""
    x_0, known = (jnp.broadcast_to(jnp.asarray(a)[None], (n, D)) for a in (GIVEN.astype(np.float32), KNOWN))

    chosen, denoise = sampler(process), world.denoiser(process)

    @jax.jit
    def run(resamplings):
        return inpaint(image_keys(5, jnp.arange(n)), process, chosen, denoise, x_0, known, resamplings, jump)

    return run


def moments(x):
    """Mean and covariance of the unknown values."""
    x = np.float64(x)[:, ~KNOWN]
    return x.mean(axis=0), np.cov(x.T)


# ---------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("name", FINE)
def test_many_resamplings_find_the_exact_conditional(name):
    """KL from the law of the chain, exact for every number, to the conditional of the data: 0.15 nats by replacement
    alone, then less by more than half with every doubling, down to what the first noise level leaves."""
    found = [distance(FINE[name], n) for n in (1, 2, 4, 8, 16, 32, 64)]
    assert 0.14 < found[0] < 0.16 and found[-1] < 6e-4
    assert all(after < before / 2 for before, after in pairwise(found[:-1]))
    assert found[-1] < found[-2] / 1.5


def test_what_no_resampling_removes_vanishes_with_the_first_noise_level():
    """KL after so many that more change nothing: it falls ever faster, in the end 16 times, as noise[1] is halved."""
    found = [distance(ve(geometric(12, first, 10.0)), 400) for first in (0.4, 0.2, 0.1)]
    assert found[0] < 0.1 and found[1] < found[0] / 5 and found[2] < found[1] / 8


def test_long_jumps_find_the_conditional_with_as_many_steps():
    assert distance(FINE["ve"], 32, jump=5) < distance(FINE["ve"], 1) / 200


def assert_law(x, mean, cov):
    """4 standard errors of the mean and covariance of independent Gaussian draws, and the known value itself."""
    assert (np.asarray(x)[:, KNOWN] == np.float32(GIVEN[KNOWN])).all()
    mean, cov = mean[~KNOWN], cov[np.ix_(~KNOWN, ~KNOWN)]
    var = np.diag(cov)
    got_mean, got_cov = moments(x)
    assert (np.abs(got_mean - mean) < 4 * np.sqrt(var / MANY)).all()
    assert (np.abs(got_cov - cov) < 4 * np.sqrt((np.outer(var, var) + cov**2) / MANY)).all()


@pytest.mark.parametrize(
    ("process", "sampler", "step_cov", "jump"),
    [
        (FINE["vp"], exact, exact_cov, 5),
        (CASES["cosine"], SAMPLERS["ancestral"], fixed_small_cov, 1),
        (CASES["geometric"], SAMPLERS["ancestral"], fixed_small_cov, 4),
    ],
)
def test_draws_have_the_law_of_the_published_schedule(process, sampler, step_cov, jump):
    """The law is the recursion over the times that the published rule visits."""
    run = inpainted(process, sampler, jump)
    for resamplings in (1, 4):
        assert_law(run(resamplings), *law(WORLD, process, KNOWN, GIVEN, resamplings, jump, step_cov))


@pytest.mark.slow
def test_draws_approach_the_exact_conditional():
    """KL by the moments of 8192 draws, whose own error is about 3e-4."""
    process, there, found = FINE["ve"], WORLD.conditional(KNOWN, GIVEN), []
    run = inpainted(process, exact)
    for resamplings in (1, 4, 16):
        x = run(resamplings)
        assert_law(x, *law(WORLD, process, KNOWN, GIVEN, resamplings, step_cov=exact_cov))
        found.append(kl(*moments(x), *there))
    assert found[0] > 0.12 and found[1] < found[0] / 5 and found[2] < 4e-3


# ---------------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_known_stays_and_nothing_else_is_looked_at(name):
    process, sampler = P, SAMPLERS[name](P)
    denoise = GAUSSIAN.denoiser(process)
    x_0, other = (GAUSSIAN.draw(jax.random.key(i), N) for i in (1, 2))
    keys = image_keys(3, jnp.arange(N))
    known = jax.random.bernoulli(jax.random.key(0), 0.5, (N, D))
    run = jax.jit(lambda keys, x_0, known, n: inpaint(keys, process, sampler, denoise, x_0, known, n, 2))

    everything, nothing = jnp.ones((N, D), bool), jnp.zeros((N, D), bool)
    np.testing.assert_array_equal(run(keys, x_0, everything, 3), x_0)
    found = run(keys, x_0, known, 3)
    np.testing.assert_array_equal(found[known], x_0[known])
    np.testing.assert_array_equal(found, run(keys, jnp.where(known, x_0, other), known, 3))
    changed = jnp.any(found != run(keys, other, known, 3), axis=1)
    assert (changed | ~known.any(axis=1)).all()
    assert jnp.any(found != run(keys, x_0, known, 1), axis=1)[~known.all(axis=1)].all()

    # With nothing known and no going back it is the sampler, under its own part of the keys.
    folded = Sampler(sampler.init, lambda keys, *args: sampler.step(fold(keys, 0), *args))
    x_T = prior_sample(keys, process, (D,))
    plain = jax.jit(lambda: sample(keys, process, folded, denoise, x_T).x_0)()
    np.testing.assert_allclose(run(keys, x_0, nothing, 1), plain, rtol=1e-5, atol=1e-5)


def test_rows_depend_on_themselves_alone():
    x_0 = GAUSSIAN.draw(jax.random.key(1), N)
    known = jax.random.bernoulli(jax.random.key(0), 0.5, (N, D))
    sampler, denoise = SAMPLERS["ancestral"](P), GAUSSIAN.denoiser(P)
    run = jax.jit(lambda keys, x_0, known: inpaint(keys, P, sampler, denoise, x_0, known, 2))
    keys, back = image_keys(3, jnp.arange(N)), jnp.arange(N)[::-1]
    found = run(keys, x_0, known)
    np.testing.assert_allclose(run(keys[back], x_0[back], known[back])[back], found, rtol=1e-5, atol=1e-5)


def test_nonsense_is_refused():
    x_0, known = jnp.zeros((N, D)), jnp.ones((N, D), bool)
    sampler = SAMPLERS["ddim"](P)
    with pytest.raises(ValueError, match="resamplings = 0: each step is taken at least once; 1 means no going back"):
        inpainting(P, sampler, x_0, known, 0)
    for jump in (0, T):
        with pytest.raises(ValueError, match=rf"jump = {jump}: .* by 1\.\.{T - 1} steps"):
            inpainting(P, sampler, x_0, known, 2, jump)
    inpainting(P, sampler, x_0, known, 2, T - 1)
