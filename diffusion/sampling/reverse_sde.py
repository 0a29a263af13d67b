"""Reverse diffusion sampling: the reverse SDE discretised as the forward chain is. Score SDE appendix E, eq. 46."""

import jax.numpy as jnp

from diffusion.core.array_types import Image, Keys, Noise, Time, from_keys
from diffusion.core.forward_process import Process, q_step
from diffusion.core.reverse_process import Denoiser
from diffusion.core.score import score
from diffusion.sampling.sampling_loop import Sampler, State, noise_unless_last


def reverse_diffusion(process: Process, noise: Noise = from_keys) -> Sampler:
    """x_{t-1} = (2 - a) x_t + beta score + sqrt(beta) z; no noise at t = 1.

    x_t = a x_{t-1} + sqrt(beta) z is the forward step: a = signal[t] / signal[t-1], sqrt(1 - beta) or 1. Variance
    exploding it is ancestral sampling with the fixed_large variance, beta = sigma[t]^2 - sigma[t-1]^2. Variance
    preserving, ancestral sampling has (x_t + beta score) / a for the mean, which is the same to first order in beta
    (score SDE appendix E).
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        forward = q_step(process, x_t, t)
        slope = score(process, denoise(x_t, process.base_t[t]), t)
        mean = 2 * x_t - forward.mean + jnp.exp(forward.log_var) * slope
        return mean + jnp.exp(0.5 * forward.log_var) * noise_unless_last(keys, x_t, t, noise), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
