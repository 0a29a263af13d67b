"""From a network's output to a Prediction, and from that to the reverse step p(x_{t-1} | x_t).

Samplers and bounds see only `denoise(x_t, t) -> Prediction`. Clipping and guidance are functions from denoiser to
denoiser.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, Time, expand
from diffusion.core.forward_process import Process, at, q_posterior
from diffusion.core.gaussian import Gaussian
from diffusion.core.parameterization import Parameterization, Prediction, to_eps
from diffusion.core.variance import Variance

Denoiser = Callable[[Image, Time], Prediction]
"""denoise(x_t, t), t a step of the base process, the one that the network was trained on."""

Network = Callable[[Image, Array], Array]
"""network(x_t, time) -> output with C or, where it predicts a variance, 2C channels."""


class Diffusion(NamedTuple):
    """A diffusion model without its network: what losses and bounds need besides the network's output."""

    process: Process
    parameterization: Parameterization
    variance: Variance


def network_time(process: Process, t: Time) -> Array:
    """The network's time input, time[t] of the base process.

    t - 1 for the published DDPM networks, which were trained on 0..T-1 (`Process.time` makes the shift); Improved DDPM
    scales by 1000 / T so that embeddings span the same range for every T; Karras et al. 2022 take log(sigma) / 4.
    """
    return process.time[t]


def network_input(process: Process, x_t: Image, t: Time) -> Image:
    """The network's image input, scale[t] x_t, of unit variance for every t if the data have unit variance.

    x_t itself if variance preserving and sigma_data is 1. Karras et al. 2022, table 1, c_in. `process` is the base.
    """
    return at(process.scale, t, x_t) * x_t


def split(out: Array, channels: int) -> tuple[Image, Image | None]:
    """The regression half and the raw variance half (None if there is none) of a network's output channels.

    Raises ValueError where the output has neither `channels` nor twice as many channels.
    """
    if out.shape[-1] == channels:
        return out, None
    if out.shape[-1] == 2 * channels:
        return out[..., :channels], out[..., channels:]
    raise ValueError(f"a network for {channels} channels must output {channels} or {2 * channels}, not {out.shape[-1]}")


def interpret(
    process: Process, parameterization: Parameterization, out: Image, raw_var: Image | None, x_t: Image, t: Time
) -> Prediction:
    """The Prediction that a network's output stands for; `process` is the base process. DDPM eq. 15 for eps."""
    x_0_hat = parameterization.to_x_0(process, out, x_t, t)
    return Prediction(x_0_hat, to_eps(process, x_0_hat, x_t, t), raw_var)


def from_network(process: Process, parameterization: Parameterization, network: Network) -> Denoiser:
    """The denoiser of a network. `process` is the base process, on whose steps the network was trained."""

    def denoise(x_t: Image, t: Time) -> Prediction:
        out = network(network_input(process, x_t, t), network_time(process, t))
        out, raw_var = split(out, x_t.shape[-1])
        return interpret(process, parameterization, out, raw_var, x_t, t)

    return denoise


def clip(process: Process, denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x_0_hat clipped to the range of the data, eps re-derived from it.

    As in the published sampler (the paper's Algorithm 2 has no clip) of networks that predict eps or x_0. A network
    that predicts mu is not to be clipped (Parameterization.clips): the published sampler keeps its mean. At t near T
    errors of eps reach x_0_hat amplified by noise / signal, 157 for the linear and 20000 for the cosine schedule.
    """

    def clipped(x_t: Image, t: Time) -> Prediction:
        prediction = denoise(x_t, t)
        x_0_hat = jnp.clip(prediction.x_0, low, high)
        return Prediction(x_0_hat, to_eps(process, x_0_hat, x_t, t), prediction.raw_var)

    return clipped


def reverse(process: Process, variance: Variance, prediction: Prediction, x_t: Image, t: Time) -> Gaussian:
    """p(x_{t-1} | x_t): the posterior mean at x_0_hat, with the chosen variance. DDPM eq. 1, 11, 15.

    mean = c_x_0[t] x_0_hat + c_x_t[t] x_t. `process` is the one being sampled, t its step in 1..T.
    """
    mean = q_posterior(process, prediction.x_0, x_t, t).mean
    return Gaussian(mean, expand(variance(process, t, prediction.raw_var), x_t))
