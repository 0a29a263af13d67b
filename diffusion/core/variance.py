"""The log-variance of p(x_{t-1} | x_t), from tables or from the network's raw variance channels.

Each is a function (process, t, raw_var) -> log_var, of shape [B] if all dimensions share it. `process` is the sampled
one: a respaced chain has its own beta and beta_tilde, between which the raw output interpolates.
"""

from collections.abc import Callable

import jax.numpy as jnp

from diffusion.core.array_types import Image, PerExample, Time
from diffusion.core.forward_process import Process, at

Variance = Callable[[Process, Time, Image | None], Image | PerExample]


def fixed_large(process: Process, t: Time, raw_var: Image | None) -> PerExample:  # noqa: ARG001
    """log beta[t], the optimum for x_0 ~ N(0, I). DDPM section 3.2. At t = 1 that of fixed_small, as published."""
    return jnp.where(t > 1, process.log_beta[t], process.log_beta_tilde[t])


def fixed_small(process: Process, t: Time, raw_var: Image | None) -> PerExample:  # noqa: ARG001
    """log beta_tilde[t], the optimum for x_0 known exactly. DDPM section 3.2. At t = 1 the stand-in for log 0."""
    return process.log_beta_tilde[t]


def learned(process: Process, t: Time, raw_var: Image | None) -> Image:  # noqa: ARG001
    """The raw output. DDPM Table 2, "learned diagonal". A fresh network's 0 is far above good values, -9 to -4."""
    return _required(raw_var)


def learned_range(process: Process, t: Time, raw_var: Image | None) -> Image:
    """Interpolation f log beta + (1 - f) log beta_tilde with f = (raw_var + 1) / 2. Improved DDPM eq. 15.

    f is not squashed: outputs beyond [-1, 1] extrapolate. At t = 1 the ends are log beta[1] and the stand-in for
    log beta_tilde[1] = -inf, as published: 1e-4 and 5.45e-5 for the linear schedule of 1000 steps.
    """
    raw_var = _required(raw_var)
    f = (raw_var + 1.0) / 2.0
    return f * at(process.log_beta, t, raw_var) + (1.0 - f) * at(process.log_beta_tilde, t, raw_var)


def _required(raw_var: Image | None) -> Image:
    if raw_var is None:
        raise ValueError("a learned variance needs a network with twice as many output channels as the data has")
    return raw_var
