"""Training objectives: a weighted squared error and the variational bound, in any proportion.

    loss_i = weight(t) gain(t)^2 mean_dims (target - out)^2  +  vlb * T * term(t) in bits/dim

With t uniform the mean of the second part is an unbiased estimate of L_vlb = sum_t L_{t-1} in bits/dim (without L_T,
which has no parameters).

    L_simple    weight native, vlb 0                                            DDPM eq. 14
    L           no weight, vlb 1                                                DDPM eq. 5
    mu-tilde    weight mu_mse, vlb 0                                            DDPM Table 2
    L_hybrid    weight native, vlb 0.001, mean frozen in the bound              Improved DDPM eq. 16

The published 0.001 of L_hybrid is in this unit, bits/dim of the whole bound. The published DDPM code trains L without
the factor T, that is with vlb = 1 / T; the factor changes gradient clipping but not Adam.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Image, PerExample, expand
from diffusion.core.decoder import discretized_log_prob
from diffusion.core.elbo import Decoder, bits_per_dim, dims, term
from diffusion.core.forward_process import Noised
from diffusion.core.gaussian import mean_dims
from diffusion.core.reverse_process import Diffusion, interpret
from diffusion.core.weighting import Weight


class Objective(NamedTuple):
    """The proportions of a training loss."""

    weight: Weight | None
    """Weight of the squared error in x_0 space; None leaves it out."""
    vlb: float
    """Factor of the bound in bits/dim; 0 leaves it out."""
    freeze_mean: bool = False
    """Whether the bound trains the variance alone, the mean half being detached in it. Improved DDPM section 3.1."""
    decoder: Decoder = discretized_log_prob


class Terms(NamedTuple):
    """A loss and its parts, per example."""

    loss: PerExample
    mse: PerExample
    """Plain squared error of the output, mean over dimensions, unweighted: comparable across objectives."""
    vlb: PerExample
    """T times the bound's term at t, in bits/dim; 0 where the objective has no bound."""


def evaluate(objective: Objective, diffusion: Diffusion, noised: Noised, out: Image, raw_var: Image | None) -> Terms:
    """The loss of each example, given the network's output halves for `noised`.

    The bound is computed from the unclipped prediction, as published: a clipped one would have no gradient.
    """
    process, parameterization, _ = diffusion
    error = (parameterization.target(process, noised) - out) ** 2
    mse = mean_dims(error)
    loss, vlb = jnp.zeros_like(mse), jnp.zeros_like(mse)
    if objective.weight is not None:
        factor = objective.weight(process, parameterization, noised.t) * parameterization.gain(process, noised.t) ** 2
        loss = mean_dims(expand(factor, error) * error)
    if objective.vlb:
        mean_half = jax.lax.stop_gradient(out) if objective.freeze_mean else out
        prediction = interpret(process, parameterization, mean_half, raw_var, noised.x_t, noised.t)
        nats = term(diffusion, noised, prediction, objective.decoder)
        vlb = process.T * bits_per_dim(nats, dims(out))
        loss = loss + objective.vlb * vlb
    return Terms(loss, mse, vlb)
