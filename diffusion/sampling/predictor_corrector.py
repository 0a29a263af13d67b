"""Predictor-corrector sampling: Langevin steps correct the marginal distribution before each step of any sampler.

Score SDE Algorithms 2-5 and section 4.2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, Keys, Noise, PerExample, Time, fold, from_keys
from diffusion.core.forward_process import Process
from diffusion.core.reverse_process import Denoiser
from diffusion.core.score import score
from diffusion.sampling.langevin import climb
from diffusion.sampling.sampling_loop import Sampler, State

CORRECTOR = 2**31 - 1
"""Folded into the keys of a step for its corrector; larger than anything that predictors fold in."""

Length = Callable[[Time], PerExample]
"""The length h of a Langevin step at level t."""


def by_noise(process: Process, snr: float) -> Length:
    """h = 2 (a snr noise[t])^2 with a = signal[t] / signal[t-1], at most noise[t]^2; t in 1..T.

    Score SDE Algorithm 4 (variance exploding, a = 1) and Algorithm 5 (variance preserving, a^2 = 1 - beta) have
    2 a^2 (snr |z| / |score|)^2, with norms of the noise z and of the score. Here are the expected norms: E|z|^2 = D,
    and E|grad log q(x_t | x_0)|^2 = D / noise[t]^2. A measured length depends on x, so its steps would not keep the law
    q(x_t) where norms vary: hardly in images, much in a few dimensions, where the score may vanish.
    """

    def length(t: Time) -> PerExample:
        a = process.signal[t] / process.signal[t - 1]
        return jnp.minimum(2 * (a * snr) ** 2, 1.0) * process.noise[t] ** 2

    return length


def predictor_corrector(
    process: Process, predictor: Sampler, n: int, length: Length, noise: Noise = from_keys
) -> Sampler:
    """At each t = T..1, n Langevin steps at the level of t, then the predictor's step to t - 1; n = 0 is the predictor.

    Algorithms 2 and 3 in the order of the published code, the corrector first, which needs no score at t = 0.
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        own = fold(keys, CORRECTOR)

        def correct(j: Array, x: Image) -> Image:
            slope, z = score(process, denoise(x, process.base_t[t]), t), noise(fold(own, j), x, t)
            return climb(x, slope, length(t), z)

        return predictor.step(keys, state, jax.lax.fori_loop(0, n, correct, x_t), t, denoise)

    return Sampler(predictor.init, step, predictor.calls + n)
