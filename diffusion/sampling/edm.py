"""EDM's stochastic sampler: Heun's method on the probability flow in the noise level, with churn.

In z = x / signal and sigma = noise / signal every process is variance exploding, and its flow is dz / dsigma = eps_hat.
Karras et al. 2022, eq. 4, Algorithm 1 (churn = 0) and Algorithm 2.
"""

from math import inf

import jax.numpy as jnp

from diffusion.core.array_types import Image, Keys, Noise, Time, expand, from_keys
from diffusion.core.forward_process import Process, at
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler, State


def edm(
    process: Process,
    base: Process,
    churn: float = 0.0,
    sigma_from: float = 0.0,
    sigma_to: float = inf,
    noise_scale: float = 1.0,
    noise: Noise = from_keys,
) -> Sampler:
    """z_{t-1} = z + h (eps_hat(z, s) + eps_hat(z + h eps_hat(z, s), sigma[t-1])) / 2,  h = sigma[t-1] - s.

    First z_t and its level are raised: z = z_t + sqrt(s^2 - sigma[t]^2) noise_scale n, with s the level nearest to
    (1 + gamma) sigma[t] that the network was trained on, a step of `base`. gamma = min(churn / T, sqrt(2) - 1) for
    sigma[t] in sigma_from..sigma_to, else 0: S_churn, S_min, S_max and S_noise of the paper. Two network calls a step.
    The step to t = 0 is Euler's, which returns x_0_hat; so is one from a step without signal, where h is infinite.
    """
    sigma, trained = process.noise / process.signal, base.noise / base.signal
    gamma = jnp.where((sigma >= sigma_from) & (sigma <= sigma_to), min(churn / process.T, 2**0.5 - 1), 0.0)
    nearest = jnp.argmin(jnp.abs(trained[None, :] - ((1 + gamma) * sigma)[:, None]), axis=1).astype(jnp.int32)
    raised = jnp.where(gamma > 0, jnp.maximum(nearest, process.base_t), process.base_t)
    raises = raised > process.base_t
    factor = jnp.where(raises, base.signal[raised] / process.signal, 1.0)
    added = jnp.where(raises, noise_scale * base.signal[raised] * jnp.sqrt(trained[raised] ** 2 - sigma**2), 0.0)

    def step(keys: Keys, state: State, x_t: Image, t: Time, denoise: Denoiser) -> tuple[Image, State]:
        high, s = raised[t], jnp.maximum(t - 1, 1)  # the second call counts for t > 1 alone
        x = at(factor, t, x_t) * x_t + at(added, t, x_t) * noise(keys, x_t, t)
        first = denoise(x, high)
        euler = at(process.signal, t - 1, x_t) * first.x_0 + at(process.noise, t - 1, x_t) * first.eps
        second = denoise(euler, process.base_t[s])
        h = jnp.where(jnp.isfinite(trained[high]) & (t > 1), sigma[s] - trained[high], 0.0)
        return euler + expand(process.signal[s] * h / 2, x_t) * (second.eps - first.eps), state

    return Sampler(lambda x_T: (), step, calls=2)  # noqa: ARG005
