"""The variational bound, term by term. DDPM eq. 5:

    -log p(x_0) <= L_T + sum_{t > 1} L_{t-1} + L_0
    L_T     = KL(q(x_T | x_0) || p(x_T))                        prior_kl
    L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))     step_kl
    L_0     = -log p(x_0 | x_1)                                 decoder_nll

Everything is in nats, summed over the dimensions of an example; bits_per_dim converts for printing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion.core import gaussian
from diffusion.core.array_types import Array, Image, Keys, Noise, PerExample, Time, fold, from_keys
from diffusion.core.decoder import discretized_log_prob
from diffusion.core.forward_process import Noised, Process, noised, prior, q_marginal, q_posterior
from diffusion.core.gaussian import Gaussian, mean_dims, sum_dims
from diffusion.core.parameterization import Prediction
from diffusion.core.reverse_process import Denoiser, Diffusion, reverse

Decoder = Callable[[Gaussian, Image], Array]
"""Log-likelihood per element of x_0 under p(x_0 | x_1): discretized_log_prob or gaussian.log_prob."""


def bits_per_dim(nats: Any, dims: int) -> Any:
    """Nats per example, a number or an array of any kind, to bits per dimension: nats / (dims ln 2)."""
    return nats / (dims * np.log(2.0))


def dims(x: Image) -> int:
    """Number of dimensions of one example."""
    return int(np.prod(x.shape[1:]))


def prior_kl(process: Process, x_0: Image) -> PerExample:
    """L_T = KL(q(x_T | x_0) || p(x_T)), without a network. Near 1e-5 bits/dim for the paper's schedule."""
    t = jnp.full(x_0.shape[0], process.T, jnp.int32)
    return sum_dims(gaussian.kl(q_marginal(process, x_0, t), prior(process, x_0)))


def step_kl(diffusion: Diffusion, noised: Noised, prediction: Prediction) -> PerExample:
    """L_{t-1} for t in 2..T, by the closed form between Gaussians. DDPM eq. 5, 8. Meaningless at t = 1."""
    posterior = q_posterior(diffusion.process, noised.x_0, noised.x_t, noised.t)
    return sum_dims(gaussian.kl(posterior, _reverse(diffusion, noised, prediction)))


def decoder_nll(
    diffusion: Diffusion, noised: Noised, prediction: Prediction, decoder: Decoder = discretized_log_prob
) -> PerExample:
    """L_0 = -log p(x_0 | x_1), by default of the discretised Gaussian decoder. DDPM eq. 13; meant for t = 1.

    gaussian.log_prob gives a density in the units of x: add log(127.5) nats a dimension for that of 8-bit values.
    """
    return -sum_dims(decoder(_reverse(diffusion, noised, prediction), noised.x_0))


def term(
    diffusion: Diffusion, noised: Noised, prediction: Prediction, decoder: Decoder = discretized_log_prob
) -> PerExample:
    """The bound's term at step t: L_{t-1} for t > 1, L_0 for t = 1. Both are computed, `where` selects."""
    nll = decoder_nll(diffusion, noised, prediction, decoder)
    return jnp.where(noised.t == 1, nll, step_kl(diffusion, noised, prediction))


def _reverse(diffusion: Diffusion, noised: Noised, prediction: Prediction) -> Gaussian:
    return reverse(diffusion.process, diffusion.variance, prediction, noised.x_t, noised.t)


class Bound(NamedTuple):
    """The bound of a batch, in nats per example."""

    prior: PerExample
    """L_T."""
    terms: Float[Array, "B T"]
    """Column t - 1 is the term of step t: column 0 is L_0, column t - 1 is L_{t-1}."""
    x_0_mse: Float[Array, "B T"]
    """Mean squared error per dimension of x_0_hat at step t = column + 1, in the units of x."""

    @property
    def total(self) -> PerExample:
        """L_T + sum_t L_{t-1} + L_0."""
        return self.prior + self.terms.sum(axis=1)


def _evaluate(
    keys: Keys, diffusion: Diffusion, denoise: Denoiser, x_0: Image, t: Time, decoder: Decoder, noise: Noise
) -> tuple[PerExample, PerExample]:
    """(the bound's term, mean squared error of x_0_hat) at step t."""
    batch = noised(diffusion.process, x_0, t, noise(keys, x_0, t))
    prediction = denoise(batch.x_t, diffusion.process.base_t[t])
    return term(diffusion, batch, prediction, decoder), mean_dims((x_0 - prediction.x_0) ** 2)


def bound(
    keys: Keys,
    diffusion: Diffusion,
    denoise: Denoiser,
    x_0: Image,
    decoder: Decoder = discretized_log_prob,
    noise: Noise = from_keys,
) -> Bound:
    """The whole bound: every step of the process, with one noise draw each. DDPM eq. 3, 5; over the entropy, eq. 16.

    Noise of example i at step t comes from fold_in(keys[i], t), whatever the batch, unless `noise` replaces it. A scan
    over t: memory beyond the [B, T] results does not grow with T.
    """

    def step(_, t: Array):
        ts = jnp.full(x_0.shape[0], t, jnp.int32)
        return None, _evaluate(fold(keys, t), diffusion, denoise, x_0, ts, decoder, noise)

    process = diffusion.process
    _, (terms, mse) = jax.lax.scan(step, None, jnp.arange(1, process.T + 1, dtype=jnp.int32))
    return Bound(prior_kl(process, x_0), terms.T, mse.T)


def estimate(
    keys: Keys,
    diffusion: Diffusion,
    denoise: Denoiser,
    x_0: Image,
    steps: int,
    decoder: Decoder = discretized_log_prob,
    noise: Noise = from_keys,
) -> PerExample:
    """An unbiased estimate of the bound's total from `steps` network calls instead of T, in nats per example.

    L_0, the largest term, is always computed. The steps 2..T are cut into steps - 1 strata whose lengths grow linearly
    with t, as the terms fall. One t is drawn in each stratum, and its term counts for the whole stratum. With steps = T
    every term is computed once. Raises ValueError unless 2 <= steps <= T (or steps = T = 1).
    """
    process = diffusion.process
    if not min(2, process.T) <= steps <= process.T:
        raise ValueError(f"steps = {steps}: an estimate of {process.T} terms needs {min(2, process.T)} to {process.T}")
    i = np.arange(steps)
    edges = np.maximum(2 + i, np.round(2 + (process.T - 1) * (i / max(steps - 1, 1)) ** 2)).astype(np.int32)
    starts = jnp.asarray(np.concatenate([[1], edges[:-1]]), jnp.int32)
    lengths = jnp.asarray(np.concatenate([[1], np.diff(edges)]), jnp.int32)

    def step(total: PerExample, stratum: tuple[Array, Array]):
        start, length = stratum
        draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, start)))(keys)
        t = start + jnp.minimum((draws * length.astype(jnp.float32)).astype(jnp.int32), length - 1)
        noise_keys = jax.vmap(jax.random.fold_in)(keys, t + process.T)
        nats, _ = _evaluate(noise_keys, diffusion, denoise, x_0, t, decoder, noise)
        return total + length.astype(jnp.float32) * nats, None

    total, _ = jax.lax.scan(step, jnp.zeros(x_0.shape[0]), (starts, lengths))
    return prior_kl(process, x_0) + total
