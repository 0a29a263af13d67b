"""What the network regresses, and how x_0 is read from it.

Each parameterisation converts to x_0 and back, so n of them need 2n functions and no conversion between pairs. All are
affine in x_0 for fixed x_t, so one number per step, `gain`, relates their errors:

    x_0_hat - x_0 = +- gain(t) (out - target)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.array_types import Image, PerExample, Time, expand
from diffusion.core.forward_process import Noised, Process, at, q_posterior


class Parameterization(NamedTuple):
    """A choice of regression target."""

    target: Callable[[Process, Noised], Image]
    """target(process, noised): what the network should output."""
    to_x_0: Callable[[Process, Image, Image, Time], Image]
    """to_x_0(process, out, x_t, t): the x_0 that an output stands for."""
    gain: Callable[[Process, Time], PerExample]
    """gain(process, t) = |d x_0 / d out|."""
    clips: bool = True
    """Whether samplers and bounds may clip x_0_hat to the range of the data. False where the network gives the reverse
    mean itself: the published sampler leaves that mean as it is."""


class Prediction(NamedTuple):
    """A denoiser's estimates from x_t; x_0 and eps always satisfy x_t = signal[t] x_0 + noise[t] eps."""

    x_0: Image
    eps: Image
    raw_var: Image | None
    """The network's raw variance channels, None where it has none."""


def _eps_target(process: Process, noised: Noised) -> Image:  # noqa: ARG001
    return noised.eps


def _eps_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:
    return (x_t - at(process.noise, t, x_t) * out) / at(process.signal, t, x_t)


def _eps_gain(process: Process, t: Time) -> PerExample:
    return process.noise[t] / process.signal[t]


eps = Parameterization(_eps_target, _eps_to_x_0, _eps_gain)
"""The noise. x_0 = (x_t - noise eps) / signal. DDPM eq. 11-12. Needs signal[T] > 0."""


def _x_0_target(process: Process, noised: Noised) -> Image:  # noqa: ARG001
    return noised.x_0


def _x_0_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:  # noqa: ARG001
    return out


def _x_0_gain(process: Process, t: Time) -> PerExample:
    return jnp.ones_like(process.signal[t])


x_0 = Parameterization(_x_0_target, _x_0_to_x_0, _x_0_gain)
"""The clean data. DDPM section 3.2."""


def _mu_target(process: Process, noised: Noised) -> Image:
    return q_posterior(process, noised.x_0, noised.x_t, noised.t).mean


def _mu_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:
    return (out - at(process.c_x_t, t, x_t) * x_t) / at(process.c_x_0, t, x_t)


def _mu_gain(process: Process, t: Time) -> PerExample:
    return 1.0 / process.c_x_0[t]


mu = Parameterization(_mu_target, _mu_to_x_0, _mu_gain, clips=False)
"""The posterior mean mu_tilde = c_x_0 x_0 + c_x_t x_t. DDPM eq. 8-10. Belongs to the process it was trained on, whose
neighbouring steps it predicts: on a respaced chain it is still read with the original process. The published sampler
takes the output as the reverse mean and clips only the x_0_hat that it reports; here x_0_hat is not clipped."""


def _v_target(process: Process, noised: Noised) -> Image:
    x_0, eps, _, t = noised
    return at(process.signal, t, x_0) * eps - at(process.noise, t, x_0) * x_0


def _v_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:
    signal, noise = at(process.signal, t, x_t), at(process.noise, t, x_t)
    return (signal * x_t - noise * out) / (signal**2 + noise**2)


def _v_gain(process: Process, t: Time) -> PerExample:
    signal, noise = process.signal[t], process.noise[t]
    return noise / (signal**2 + noise**2)


v = Parameterization(_v_target, _v_to_x_0, _v_gain)
"""v = signal eps - noise x_0, the velocity of the angle between them. Salimans and Ho 2022, section 4.

x_0 = (signal x_t - noise v) / (signal^2 + noise^2); the denominator is 1 for variance-preserving processes."""


def _edm_target(process: Process, noised: Noised) -> Image:
    x_0, eps, _, t = noised
    signal, noise, scale = (at(table, t, x_0) for table in (process.signal, process.noise, process.scale))
    return scale * (noise / process.sigma_data * x_0 - process.sigma_data * signal * eps)


def _edm_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:
    c_skip = process.sigma_data**2 * process.signal[t] * process.scale[t] ** 2
    return expand(c_skip, x_t) * x_t + expand(_edm_gain(process, t), x_t) * out


def _edm_gain(process: Process, t: Time) -> PerExample:
    return process.noise[t] * process.sigma_data * process.scale[t]


edm = Parameterization(_edm_target, _edm_to_x_0, _edm_gain)
"""The part of x_0 that x_t does not tell: x_0 = c_skip x_t / signal + c_out out, of unit variance if the data have
standard deviation sigma_data. With sigma = noise / signal, c_skip = sigma_data^2 / (sigma^2 + sigma_data^2) and
c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2). Karras et al. 2022, eq. 7 and table 1. With sigma_data = 1
and a variance-preserving process it is -v."""


def _velocity_target(process: Process, noised: Noised) -> Image:  # noqa: ARG001
    return noised.eps - noised.x_0


def _velocity_to_x_0(process: Process, out: Image, x_t: Image, t: Time) -> Image:
    signal, noise = at(process.signal, t, x_t), at(process.noise, t, x_t)
    return (x_t - noise * out) / (signal + noise)


def _velocity_gain(process: Process, t: Time) -> PerExample:
    return process.noise[t] / (process.signal[t] + process.noise[t])


velocity = Parameterization(_velocity_target, _velocity_to_x_0, _velocity_gain)
"""The difference of noise and data, eps - x_0: dx / du of a flow x = (1 - u) x_0 + u eps. Liu et al. 2023 eq. 1.

x_0 = (x_t - noise out) / (signal + noise); the denominator is 1 for flows. Its L_simple is flow matching's loss (Lipman
et al. 2023 eq. 23)."""


def to_eps(process: Process, x_0_hat: Image, x_t: Image, t: Time) -> Image:
    """The noise that x_0_hat implies: (x_t - signal[t] x_0_hat) / noise[t]; t in 1..T."""
    return (x_t - at(process.signal, t, x_t) * x_0_hat) / at(process.noise, t, x_t)
