"""Ancestral sampling: DDPM Algorithm 2."""

from diffusion import gaussian
from diffusion.denoiser import Denoiser, reverse
from diffusion.process import Process
from diffusion.sampling.loop import Sampler, State, noise_unless_last
from diffusion.types import Image, Keys, Time
from diffusion.variance import Variance


def ancestral(process: Process, variance: Variance) -> Sampler:
    """x_{t-1} ~ p(x_{t-1} | x_t) for t > 1 and its mean for t = 1. DDPM Algorithm 2.

    The mean is the posterior mean at x_0_hat; for eps it equals the paper's (x_t - beta eps / sqrt(1 - alpha_bar)) /
    sqrt(alpha) exactly, unless the denoiser clips x_0_hat, as the published code does.
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        p = reverse(process, variance, denoise(x_t, process.base_t[t]), x_t, t)
        return gaussian.sample(p, noise_unless_last(keys, x_t, t)), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
