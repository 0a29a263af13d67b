"""EDM's sampler against its Algorithms 1 and 2, written as they stand in the paper, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core import respacing, schedules
from diffusion.core.array_types import expand
from diffusion.core.forward_process import Process, ve, vp
from diffusion.sampling.edm import edm
from diffusion.sampling.sampling_loop import image_keys, prior_sample, sample
from tests.support.worlds import GAUSSIAN, MIXTURE, float64

BASE = ve(schedules.karras(400))
GRIDS = {
    "exploding": (ve, schedules.karras(400)),
    "preserving": (vp, schedules.cosine(400)),
}
N = 16


def chain(name: str, text: str) -> tuple[Process, Process]:
    """A process of 400 steps, and the same on a grid."""
    make, table = GRIDS[name]
    base = make(table)
    ts = respacing.parse(text)(np.float64(base.noise) / np.float64(base.signal))
    return base, make(table[ts], base_t=ts)


def algorithm_2(base: Process, process: Process, x: np.ndarray, churn: tuple, n: np.ndarray) -> np.ndarray:
    """x_T to x_0: z = x / signal, sigma = noise / signal; n[t] is the normal noise of step t; churn = S_churn, ..."""
    base, process = float64(base), float64(process)
    S_churn, S_min, S_max, S_noise = churn
    trained, sigma = base.noise[1:] / base.signal[1:], process.noise / process.signal
    denoiser = MIXTURE.denoiser(Process(*(jnp.asarray(table) for table in base)))

    def D(z: np.ndarray, step: int) -> np.ndarray:
        x_t = jnp.float32(z * base.signal[step])
        return np.float64(denoiser(x_t, jnp.full(len(z), step)).x_0)

    z = x / process.signal[-1]
    for t in range(len(sigma) - 1, 0, -1):
        gamma = min(S_churn / (len(sigma) - 1), 2**0.5 - 1) if S_min <= sigma[t] <= S_max else 0
        step = int(process.base_t[t])
        if gamma > 0:
            step = max(step, 1 + int(np.abs(trained - (1 + gamma) * sigma[t]).argmin()))
        level = trained[step - 1]
        z = z + np.sqrt(max(level**2 - sigma[t] ** 2, 0)) * S_noise * n[t]
        d = (z - D(z, step)) / level
        after = z + (sigma[t - 1] - level) * d
        if t > 1:
            d_after = (after - D(after, int(process.base_t[t - 1]))) / sigma[t - 1]
            after = z + (sigma[t - 1] - level) * (d + d_after) / 2
        z = after
    return z


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("churn", [(0.0, 0.0, np.inf, 1.0), (2.0, 0.05, 5.0, 1.003), (80.0, 0.0, np.inf, 0.9)])
def test_it_is_algorithm_2(name, churn, rng):
    base, process = chain(name, "karras12")
    keys = image_keys(0, jnp.arange(N))
    n = rng.normal(size=(process.T + 1, 3))
    x_T = np.float64(prior_sample(keys, process, (3,)))
    sampler = edm(process, base, *churn, noise=lambda keys, like, t: jnp.float32(n)[t])  # noqa: ARG005
    found = sample(keys, process, sampler, MIXTURE.denoiser(base), jnp.float32(x_T)).x_0
    np.testing.assert_allclose(found, algorithm_2(base, process, x_T, churn, n), rtol=2e-3, atol=2e-3)


def test_churn_keeps_the_law():
    """Noise is added and removed: the spread of the data stays, and the images are others."""
    base, process = chain("exploding", "karras100")
    keys = image_keys(1, jnp.arange(4096))
    x_T = prior_sample(keys, process, (3,))
    runs = [
        np.float64(
            jax.jit(lambda c=c: sample(keys, process, edm(process, base, c), GAUSSIAN.denoiser(base), x_T).x_0)()
        )
        for c in (0.0, 30.0)
    ]
    for x in runs:
        np.testing.assert_allclose(x.mean(axis=0), GAUSSIAN.mean, atol=0.06 * GAUSSIAN.std.max())
        np.testing.assert_allclose(x.std(axis=0), GAUSSIAN.std, rtol=0.05)
    assert np.abs(runs[0] - runs[1]).max() > 0.1 * GAUSSIAN.std.min()


def test_no_level_above_that_of_the_network_is_asked_for():
    """Churn at t = T would leave the trained levels: it stays at T."""
    base, process = chain("exploding", "karras12")
    seen = []

    def denoise(x_t: jax.Array, t: jax.Array):
        seen.append(int(t[0]))
        return GAUSSIAN.denoiser(base)(x_t, t)

    sampler = edm(process, base, 100.0)
    for t in (process.T, process.T - 1):
        x_t = expand(process.noise[jnp.full(2, t)], jnp.ones((2, 3))) * jnp.ones((2, 3))
        sampler.step(image_keys(0, jnp.arange(2)), (), x_t, jnp.full(2, t), denoise)
    assert seen[0] == base.T and seen[1] == process.base_t[-2]
    assert process.base_t[-2] < seen[2] <= base.T and seen[3] == process.base_t[-3]
