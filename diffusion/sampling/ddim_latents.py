"""The latents of DDIM, the x_T from which the deterministic sampler makes images: from an image, back, and mixed.

DDIM sections 4.3, 5.3 and 5.4.
"""

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, PerExample, Time, expand
from diffusion.core.forward_process import Process, at
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.ddim import ddim
from diffusion.sampling.sampling_loop import image_keys, sample


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


def slerp(x: Image, other: Image, lam: PerExample) -> Image:
    """sin((1 - lam) theta) / sin(theta) x + sin(lam theta) / sin(theta) other,  theta the angle between the two.

    Spherical linear interpolation of each row; DDIM appendix D.5. Rows of equal length keep it: latents of D dimensions
    are about sqrt(D) long, while the middle of a straight line between two is shorter by sqrt(2). Computed as
    lam' sinc(lam' theta / pi) / sinc(theta / pi), which tends to the straight line as theta falls to 0. Rows in
    opposite directions have no shortest arc and rows of zeros no direction: both are mixed on the straight line.
    """
    flat, across = x.reshape(x.shape[0], -1), other.reshape(x.shape[0], -1)
    lengths = jnp.linalg.norm(flat, axis=1) * jnp.linalg.norm(across, axis=1)
    cosine = jnp.sum(flat * across, axis=1) / jnp.where(lengths > 0, lengths, 1.0)
    theta = jnp.where(lengths > 0, jnp.arccos(jnp.clip(cosine, -1.0, 1.0)), 0.0)
    # Within 1e-3 of pi the plane of the arc is rounding, and sinc is nearly 0.
    theta = jnp.where(theta > jnp.pi - 1e-3, 0.0, theta)

    def share(part: Array) -> Array:
        return expand(part * jnp.sinc(part * theta / jnp.pi) / jnp.sinc(theta / jnp.pi), x)

    return share(1 - lam) * x + share(lam) * other


def interpolate_latents(process: Process, denoise: Denoiser, x_0: Image, other: Image, lam: PerExample) -> Image:
    """decode(slerp(encode(x_0), encode(other), lam)): no noise is drawn. DDIM figure 6, between two images.

    lam = 0 is the round trip of x_0, lam = 1 that of `other`; see `encode` for its error.
    """
    return decode(process, denoise, slerp(encode(process, denoise, x_0), encode(process, denoise, other), lam))
