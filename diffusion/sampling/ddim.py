"""Denoising diffusion implicit models: deterministic at eta = 0, ancestral at eta = 1."""

import jax.numpy as jnp

from diffusion.core.array_types import Image, Keys, Noise, Time, expand, from_keys
from diffusion.core.forward_process import Process, at
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler, State, noise_unless_last


def ddim(process: Process, eta: float = 0.0, noise: Noise = from_keys) -> Sampler:
    """x_{t-1} = signal[t-1] x_0_hat + sqrt(noise[t-1]^2 - std^2) eps_hat + std z,  std^2 = eta^2 beta_tilde[t].

    DDIM eq. 12 and 16; holds for variance-exploding processes alike. eps_hat is that of the (clipped) x_0_hat. At t = 1
    the result is x_0_hat. eta = 1 on the full grid is ancestral sampling with fixed-small variance; its larger-variance
    variant is ancestral sampling with fixed-large variance on the same grid.
    """

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        prediction = denoise(x_t, process.base_t[t])
        var = eta**2 * process.beta_tilde(t)
        direction = jnp.sqrt(jnp.maximum(process.noise[t - 1] ** 2 - var, 0.0))
        mean = at(process.signal, t - 1, x_t) * prediction.x_0 + expand(direction, x_t) * prediction.eps
        if eta == 0:
            return mean, state
        return mean + expand(jnp.sqrt(var), x_t) * noise_unless_last(keys, x_t, t, noise), state

    return Sampler(lambda x_T: (), step)  # noqa: ARG005
