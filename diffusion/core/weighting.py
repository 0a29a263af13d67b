"""Weights of the squared error, stated in x_0 space: the loss is weight(t) ||x_0 - x_0_hat||^2.

Each is a function (process, parameterization, t) -> [B]. In x_0 space a weight does not depend on what the network
predicts: the objective multiplies it by gain(t)^2 and compares outputs with targets.
"""

from collections.abc import Callable

import jax.numpy as jnp

from diffusion.core.array_types import PerExample, Time
from diffusion.core.forward_process import Process, snr
from diffusion.core.parameterization import Parameterization
from diffusion.core.parameterization import edm as edm_output

Weight = Callable[[Process, Parameterization, Time], PerExample]


def native(process: Process, parameterization: Parameterization, t: Time) -> PerExample:
    """1 / gain(t)^2: the plain squared error of the network's output. L_simple for eps. DDPM eq. 14."""
    return 1.0 / parameterization.gain(process, t) ** 2


def mu_mse(process: Process, parameterization: Parameterization, t: Time) -> PerExample:  # noqa: ARG001
    """c_x_0[t]^2: the squared error of the posterior mean. DDPM Table 2, "MSE on mu-tilde"."""
    return process.c_x_0[t] ** 2


def vlb(process: Process, parameterization: Parameterization, t: Time) -> PerExample:  # noqa: ARG001
    """c_x_0[t]^2 / (2 beta_tilde[t]): the KL of a fixed-small step, = (SNR[t-1] - SNR[t]) / 2. DDPM eq. 12.

    For t >= 2. At t = 1, where the table has the decoder's variance, it is that of the Gaussian decoder's density.
    """
    return process.c_x_0[t] ** 2 / 2.0 * jnp.exp(-process.log_beta_tilde[t])


def p2(process: Process, parameterization: Parameterization, t: Time, gamma: float = 1.0, k: float = 1.0) -> PerExample:  # noqa: ARG001
    """SNR / (k + SNR)^gamma: the squared error of eps weighted by 1 / (k + SNR)^gamma. P2, Choi et al. 2022 eq. 8.

    An error of eps is sqrt(SNR) times that of x_0, whatever the process. gamma = 0 is L_simple; k bounds the weight
    where little signal is left. The squared error of v (variance preserving) gets SNR / ((1 + SNR) (k + SNR)^gamma).
    """
    ratio = snr(process, t)
    return ratio / (k + ratio) ** gamma


def min_snr(process: Process, parameterization: Parameterization, t: Time, gamma: float = 5.0) -> PerExample:  # noqa: ARG001
    """min(SNR, gamma), of the squared error of x_0. Min-SNR-gamma, Hang et al. 2023 section 3.4.

    Published for networks that predict eps and v: min(SNR, gamma) / SNR and min(SNR, gamma) / (SNR + 1).
    """
    return jnp.minimum(snr(process, t), gamma)


def edm(process: Process, parameterization: Parameterization, t: Time) -> PerExample:  # noqa: ARG001
    """1 / c_out^2 = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, sigma = noise / signal. EDM table 1.

    It makes every noise level count alike at the start of training: the output of the edm parameterisation then has a
    target of unit variance. `native` is the same for that parameterisation.
    """
    return native(process, edm_output, t)
