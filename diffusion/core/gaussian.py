"""Diagonal Gaussians: divergence, density and samples, in nats.

Results are per element: sum over the dimensions of an example with `sum_dims`.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, PerExample


class Gaussian(NamedTuple):
    """N(mean, exp(log_var) I). `log_var` may have singleton axes where it is shared by all dimensions of an example."""

    mean: Array
    log_var: Array


def sum_dims(x: Image) -> PerExample:
    """Sum over all axes but the first."""
    return x.reshape(x.shape[0], -1).sum(axis=1)


def mean_dims(x: Image) -> PerExample:
    """Mean over all axes but the first."""
    return x.reshape(x.shape[0], -1).mean(axis=1)


def kl(p: Gaussian, q: Gaussian) -> Array:
    """KL(p || q) per element, in nats.

    1/2 (e^d - 1 - d + (mean_p - mean_q)^2 / var_q),  d = log var_p - log var_q

    Log-variances form the ratio of two tiny variances as a difference of logarithms. expm1 is there because most terms
    of the bound are far below the error of 6e-8 that adding and removing 1 would leave.
    """
    d = p.log_var - q.log_var
    return 0.5 * (jnp.expm1(d) - d + (p.mean - q.mean) ** 2 * jnp.exp(-q.log_var))


def log_prob(g: Gaussian, x: Array) -> Array:
    """Log-density of x per element, in nats."""
    return -0.5 * (jnp.log(2 * jnp.pi) + g.log_var + (x - g.mean) ** 2 * jnp.exp(-g.log_var))


def sample(g: Gaussian, eps: Array) -> Array:
    """mean + std * eps, for standard normal eps."""
    return g.mean + jnp.exp(0.5 * g.log_var) * eps
