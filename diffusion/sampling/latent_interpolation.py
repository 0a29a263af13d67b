"""Interpolation between the latents of DDIM, the x_T from which the deterministic sampler makes images. DDIM 5.3."""

import jax.numpy as jnp

from diffusion.core.denoiser import Denoiser
from diffusion.core.process import Process
from diffusion.core.types import Array, Image, PerExample, expand
from diffusion.sampling.ddim_inversion import decode, encode


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

    lam = 0 is the round trip of x_0, lam = 1 that of `other`; see ddim_inversion.py for its error.
    """
    return decode(process, denoise, slerp(encode(process, denoise, x_0), encode(process, denoise, other), lam))
