"""Ancestral sampling: DDPM Algorithm 2."""

from diffusion.core import gaussian
from diffusion.core.array_types import Image, Keys, Noise, Time, from_keys
from diffusion.core.forward_process import Process
from diffusion.core.reverse_process import Denoiser, reverse
from diffusion.core.variance import Variance
from diffusion.sampling.sampling_loop import Sampler, State, noise_unless_last


def ancestral(process: Process, variance: Variance, noise: Noise = from_keys) -> Sampler:
    """x_{t-1} ~ p(x_{t-1} | x_t) for t > 1 and its mean for t = 1. DDPM Algorithm 2.

    For eps the mean equals the paper's (x_t - beta eps / sqrt(1 - alpha_bar)) / sqrt(alpha) exactly, unless the
    denoiser clips x_0_hat, as the published code does.
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        p = reverse(process, variance, denoise(x_t, process.base_t[t]), x_t, t)
        return gaussian.sample(p, noise_unless_last(keys, x_t, t, noise)), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
