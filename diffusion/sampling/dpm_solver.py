"""DPM-Solver++(2M): deterministic, second order, one network call a step. Lu et al. 2022, Algorithm 2."""

from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.array_types import Image, Keys, PerExample, Time, expand
from diffusion.core.forward_process import Process, at
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler


class Previous(NamedTuple):
    """The state of a multi-step method: its last step."""

    x_0: Image
    """The last x_0_hat."""
    h: PerExample
    """The last increase of log(signal / noise); infinite before the first step."""


def dpm_solver(process: Process) -> Sampler:
    """x_{t-1} = noise[t-1] / noise[t] x_t + (signal[t-1] - signal[t] noise[t-1] / noise[t]) d

    d = x_0_hat + h / (2 h_last) (x_0_hat - last x_0_hat),  h = lambda[t-1] - lambda[t],  lambda = log(signal / noise).

    The published factor of d, signal[t-1] (1 - e^-h), is written so that it holds for infinite h. With d = x_0_hat the
    step is DDIM's; so are the first step and the one to t = 0, where lambda is infinite, which returns x_0_hat.
    """
    tiny = jnp.finfo(process.signal.dtype).tiny
    # Finite values at t = 0 and at a T without signal, where the ratio of steps is 0 or not used.
    log_snr = jnp.log(jnp.maximum(process.signal, tiny)) - jnp.log(jnp.maximum(process.noise, tiny))

    def init(x_T: Image) -> Previous:
        return Previous(jnp.zeros_like(x_T), jnp.full(x_T.shape[0], jnp.inf))

    def step(keys: Keys, state: Previous, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, Previous]:  # noqa: ARG001
        x_0_hat = denoise(x_t, process.base_t[t]).x_0
        h = log_snr[t - 1] - log_snr[t]
        share = jnp.where(t > 1, h / (2 * state.h), 0.0)
        d = x_0_hat + expand(share, x_t) * (x_0_hat - state.x_0)
        noise_ratio = at(process.noise, t - 1, x_t) / at(process.noise, t, x_t)
        factor = at(process.signal, t - 1, x_t) - at(process.signal, t, x_t) * noise_ratio
        return noise_ratio * x_t + factor * d, Previous(x_0_hat, h)

    return Sampler(init, step)
