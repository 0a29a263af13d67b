"""DDIM inversion: from an image to the noise from which the deterministic sampler makes it. DDIM sections 4.3, 5.4."""

import jax
import jax.numpy as jnp

from diffusion.core.denoiser import Denoiser
from diffusion.core.gaussian import mean_dims
from diffusion.core.process import Process, at
from diffusion.core.types import Array, Image, PerExample, Time, expand
from diffusion.sampling.ddim import ddim
from diffusion.sampling.loop import image_keys, sample


def encode_step(process: Process, denoise: Denoiser, x_t: Image, t: Time) -> Image:
    """x_{t+1} = signal[t+1] x_0_hat(x_t) + noise[t+1] eps_hat(x_t), one DDIM step upwards; t in 0..T-1. DDIM eq. 13-14.

    The network has no t = 0: there x_0_hat is x_0 itself, and eps_hat is taken at (signal[1] x_0, 1), the mean of x_1.
    """
    clean = expand(t == 0, x_t)
    prediction = denoise(jnp.where(clean, process.signal[1] * x_t, x_t), process.base_t[jnp.maximum(t, 1)])
    x_0_hat = jnp.where(clean, x_t, prediction.x_0)
    return at(process.signal, t + 1, x_t) * x_0_hat + at(process.noise, t + 1, x_t) * prediction.eps


def encode(process: Process, denoise: Denoiser, x_0: Image) -> Image:
    """x_T from x_0 by `encode_step` for t = 0..T-1. `decode` returns x_0 up to an error that falls with the steps."""

    def step(t: Array, x_t: Image) -> Image:
        return encode_step(process, denoise, x_t, jnp.full(x_t.shape[0], t, jnp.int32))

    return jax.lax.fori_loop(0, process.T, step, x_0)


def decode(process: Process, denoise: Denoiser, x_T: Image) -> Image:
    """x_0 from x_T by DDIM with eta = 0."""
    unused = image_keys(0, jnp.arange(x_T.shape[0]))
    return sample(unused, process, ddim(process), denoise, x_T).x_0


def reconstruction_error(process: Process, denoise: Denoiser, x_0: Image) -> PerExample:
    """Mean squared error per dimension of decode(encode(x_0)); for images in [0, 1], as in DDIM Table 2, a quarter."""
    return mean_dims((decode(process, denoise, encode(process, denoise, x_0)) - x_0) ** 2)
