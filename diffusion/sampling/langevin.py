"""Langevin dynamics: steps along the score, with noise.

    x <- x + h score(x) + sqrt(2 h) z,  z standard normal

NCSN (Song and Ermon 2019) eq. 4, whose alpha is 2 h.
"""

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, Keys, Noise, PerExample, Time, expand, fold, from_keys
from diffusion.core.forward_process import Process
from diffusion.core.reverse_process import Denoiser
from diffusion.core.score import score
from diffusion.sampling.sampling_loop import Sampler, State


def climb(x: Image, score: Image, h: PerExample, z: Image) -> Image:
    """One step, x + h score + sqrt(2 h) z. NCSN eq. 4.

    Steps of length h lead to a law near q(x_t), to first order in h: a normal law of variance V becomes one of variance
    V / (1 - h / (2 V)). Steps longer than 2 noise[t]^2 may diverge.
    """
    return x + expand(h, x) * score + expand(jnp.sqrt(2 * h), x) * z


def annealed_langevin(process: Process, n: int, snr: float, noise: Noise = from_keys) -> Sampler:
    """n >= 1 Langevin steps of length h = 2 snr^2 noise[t]^2 at each level t = T..1. NCSN Algorithm 1.

    Its eps is 4 snr^2 noise[1]^2: the published 2e-5 at a last level of 0.01 is snr 0.22, with n = 100 on 10 levels.
    h is at most noise[t]^2 (snr 0.71), the length of Tweedie's step; longer steps overshoot.

    x / signal is unchanged between levels, that is x for variance-exploding processes (and x itself from a level
    without signal, which only jsd and rectified have). The law lags behind that of the levels. The data's law is
    approached as T or n grows: the spread has an error of about 1 / T for geometric levels and T^(-2/3) for cosine's.
    The very last step is Tweedie's, without noise (Jolicoeur-Martineau et al. 2021); Algorithm 1 leaves noise[1].
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

    return Sampler(lambda x_T: (), step, calls=n)  # noqa: ARG005
