"""Heun's method on the probability-flow ODE: deterministic, second order, two network calls a step.

Score SDE eq. 13 and EDM Algorithm 1, in the angle phi = atan(noise / signal) instead of a noise level. With
r = sqrt(signal^2 + noise^2) the flow of z = x / r is

    dz / dphi = v_hat = (signal eps_hat - noise x_0_hat) / r

for every process (r = 1 if variance preserving). It is regular at both ends, at t = 0 and where no signal is left.
"""

import jax.numpy as jnp

from diffusion.core.array_types import Image, Keys, Time, expand
from diffusion.core.forward_process import Process, at
from diffusion.core.parameterization import Prediction
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler, State


def heun(process: Process) -> Sampler:
    """z_{t-1} = z_t + tan(h / 2) (v_hat(x_t) + v_hat(x)),  x the DDIM step from x_t,  h = phi[t-1] - phi[t].

    The trapezoidal rule, with tan(h / 2) for h / 2, which makes it exact for constant x_0_hat and eps_hat: z then moves
    on a circle. The step to t = 0 is DDIM's, which returns x_0_hat, since networks have no t = 0.
    """

    def velocity(prediction: Prediction, t: Time) -> Image:
        signal, noise = at(process.signal, t, prediction.x_0), at(process.noise, t, prediction.x_0)
        return (signal * prediction.eps - noise * prediction.x_0) / jnp.sqrt(signal**2 + noise**2)

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:  # noqa: ARG001
        first = denoise(x_t, process.base_t[t])
        signal, noise = process.signal, process.noise
        ddim = at(signal, t - 1, x_t) * first.x_0 + at(noise, t - 1, x_t) * first.eps
        s = jnp.maximum(t - 1, 1)  # the second call counts for t > 1 alone
        second = denoise(ddim, process.base_t[s])
        radius_t, radius_s = (jnp.sqrt(signal[i] ** 2 + noise[i] ** 2) for i in (t, s))
        sin = noise[s] * signal[t] - signal[s] * noise[t]
        cos = signal[s] * signal[t] + noise[s] * noise[t]
        tan_half = sin / (radius_s * radius_t + cos)
        z = x_t / expand(radius_t, x_t) + expand(tan_half, x_t) * (velocity(first, t) + velocity(second, s))
        return jnp.where(expand(t > 1, x_t), expand(radius_s, x_t) * z, ddim), state

    return Sampler(lambda x_T: (), step, calls=2)  # noqa: ARG005
