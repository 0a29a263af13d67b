"""Langevin dynamics: steps up the score with noise that keeps them from the top.

    x <- x + h score(x) + sqrt(2 h) z,  z standard normal

NCSN (Song and Ermon 2019) eq. 4, whose alpha is 2 h.
"""

import jax
import jax.numpy as jnp

from diffusion.core.denoiser import Denoiser
from diffusion.core.process import Process
from diffusion.core.score import score
from diffusion.core.types import Array, Image, Keys, Noise, PerExample, Time, expand, fold, from_keys
from diffusion.sampling.loop import Sampler, State


def climb(x: Image, score: Image, h: PerExample, z: Image) -> Image:
    """One step: x + h score + sqrt(2 h) z."""
    return x + expand(h, x) * score + expand(jnp.sqrt(2 * h), x) * z


def unadjusted(
    keys: Keys,
    process: Process,
    denoise: Denoiser,
    x: Image,
    t: Time,
    h: PerExample,
    n: int,
    noise: Noise = from_keys,
) -> Image:
    """x after n steps of length h at the noise level of t in 1..T, which is not left. Random numbers: fold_in(keys, j).

    No step is refused, so for h > 0 the law that n -> inf leads to is not q(x_t) but near it, to first order in h: a
    normal law of variance V becomes one of V / (1 - h / (2 V)). The score falls with slope 1 / noise[t]^2 where it
    falls fastest, so steps longer than 2 noise[t]^2 may diverge.
    """

    def step(j: Array, x: Image) -> Image:
        found = score(process, denoise(x, process.base_t[t]), t)
        return climb(x, found, h, noise(fold(keys, j), x, t))

    return jax.lax.fori_loop(0, n, step, x)


def annealed_langevin(process: Process, n: int, snr: float, noise: Noise = from_keys) -> Sampler:
    """n >= 1 Langevin steps of length h = 2 snr^2 noise[t]^2 at each level t = T..1. NCSN Algorithm 1.

    Its eps is 4 snr^2 noise[1]^2: the published 2e-5 at a last level of 0.01 is snr 0.22, with n = 100 on 10 levels.
    h is at most noise[t]^2 (snr 0.71), the length of Tweedie's step, beyond which one step overshoots.

    x / signal passes from level to level as it is: where variance explodes that is x. (From a level without signal, of
    which only jsd and rectified have one, it is x that passes.) The law follows that of the levels with a lag in
    proportion to the change from one to the next over n snr^2, so the data's law is approached as T or n grows, never
    met: the spread with an error of about 1 / T for geometric levels, T^(-2/3) for levels that end linearly (cosine).
    The last of all steps is Tweedie's, without noise (Jolicoeur-Martineau et al. 2021); Algorithm 1 leaves noise[1].
    """
    share = min(2 * snr**2, 1.0)

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        h = share * process.noise[t] ** 2

        def inner(j: Array, x: Image) -> Image:
            prediction = denoise(x, process.base_t[t])
            moved = climb(x, score(process, prediction, t), h, noise(fold(keys, j), x, t))
            return jnp.where(expand((t == 1) & (j == n - 1), x), prediction.x_0, moved)

        growth = jnp.where(process.signal[t] > 0, process.signal[t - 1] / process.signal[t], 1.0)
        x = jax.lax.fori_loop(0, n, inner, x_t)
        return expand(jnp.where(t > 1, growth, 1.0), x) * x, state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
