"""How training draws t: triples of pure functions with an explicit state.

    init() -> state,   sample(key, state, n) -> (t, weight),   update(state, t, loss) -> state

`weight` makes the batch mean of weight * loss an unbiased estimate of the mean over uniform t, except where the density
of t belongs to the published loss (lognormal). The state is part of the training state and its checkpoints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from diffusion.core.array_types import Array, OneKey, PerExample, Time
from diffusion.core.forward_process import Process

State = Any


class Timesteps(NamedTuple):
    """A distribution over t that may adapt to past losses."""

    init: Callable[[], State]
    sample: Callable[[OneKey, State, int], tuple[Time, PerExample]]
    update: Callable[[State, Time, PerExample], State]


def _stateless(sample: Callable[[OneKey, int], Time]) -> Timesteps:
    def draw(key: OneKey, state: State, n: int) -> tuple[Time, PerExample]:  # noqa: ARG001
        return sample(key, n), jnp.ones(n)

    return Timesteps(lambda: (), draw, lambda state, t, loss: state)  # noqa: ARG005


def uniform(T: int) -> Timesteps:
    """t uniform on 1..T, independent for each example. DDPM Algorithm 1."""
    return _stateless(lambda key, n: jax.random.randint(key, (n,), 1, T + 1))


def antithetic(T: int) -> Timesteps:
    """Pairs (t, T + 1 - t) with t uniform: each t is uniform, and pairs cancel much of the variance. DDIM's code.

    A pair is two neighbours in the batch; with an odd n the last example has no partner.
    """

    def sample(key: OneKey, n: int) -> Time:
        t = jax.random.randint(key, ((n + 1) // 2,), 1, T + 1)
        return jnp.stack([t, T + 1 - t], axis=1).reshape(-1)[:n]

    return _stateless(sample)


def lognormal(process: Process, P_mean: float = -1.2, P_std: float = 1.2) -> Timesteps:
    """The step nearest to a noise level with log(noise / signal) ~ N(P_mean, P_std^2). Karras et al. 2022 table 1.

    Nearest is measured in the logarithm, and the ends take the tails. The density is part of the loss, as published:
    the weights are 1, so the batch mean estimates the mean over this density and not over uniform t. For a flow
    u = noise, log(noise / signal) is the logit of u: it draws u from a logit-normal density (Esser et al. 2024 section
    3.1), and never the step without signal.
    """
    log_sigma = jnp.log(process.noise[1:]) - jnp.log(process.signal[1:])
    edges = (log_sigma[1:] + log_sigma[:-1]) / 2

    def sample(key: OneKey, n: int) -> Time:
        wanted = P_mean + P_std * jax.random.normal(key, (n,))
        return 1 + jnp.searchsorted(edges, wanted).astype(jnp.int32)

    return _stateless(sample)


class History(NamedTuple):
    """The last losses of every step; row t - 1 belongs to step t, its last entry is the newest."""

    losses: Float[Array, "T H"]
    """Unweighted losses; rows with fewer than H losses start with zeros."""
    counts: Int[Array, " T"]
    """How many entries of each row are losses."""


def probabilities(history: History, uniform_share: float) -> Float[Array, " T"]:
    """(1 - uniform_share) r_t / sum r + uniform_share / T,  r_t = sqrt(mean of the squared losses of step t).

    Improved DDPM eq. 18. Uniform until every row is full, and where every loss is 0.
    """
    T, length = history.losses.shape
    largest = jnp.max(jnp.abs(history.losses))
    ready = jnp.all(history.counts == length) & (largest > 0)
    scale = jnp.where(ready, largest, 1.0)  # so that squares stay within float32
    root = jnp.sqrt(jnp.mean((history.losses / scale) ** 2, axis=1))
    adapted = (1.0 - uniform_share) * root / jnp.where(ready, jnp.sum(root), 1.0) + uniform_share / T
    return jnp.where(ready, adapted, 1.0 / T)


def loss_second_moment(T: int, history: int = 10, uniform_share: float = 0.001) -> Timesteps:
    """t with probability proportional to the root mean square of its last losses; weight 1 / (T p_t).

    p_t minimises the variance of the estimated sum. Improved DDPM eq. 18 and section 3.3: a history of 10 losses, a
    uniform share of 0.001, and t uniform with weight 1 until every step has 10 losses.

    `update` takes unweighted losses. It leaves out losses that are not finite, which would make p_t infinite or NaN;
    while a step has no finite losses t stays uniform. Several losses of one t enter in the batch's order. Draws are for
    the global batch, whatever the number of devices, and invert a cumulative sum in float32, exact to 6e-8.
    """

    def init() -> History:
        return History(jnp.zeros((T, history)), jnp.zeros(T, jnp.int32))

    def sample(key: OneKey, state: History, n: int) -> tuple[Time, PerExample]:
        p = probabilities(state, uniform_share)
        i = jax.random.choice(key, T, (n,), p=p)
        ready = jnp.all(state.counts == history)
        return i + 1, jnp.where(ready, 1.0 / (T * p[i]), 1.0)

    def update(state: History, t: Time, loss: PerExample) -> History:
        n, finite = t.shape[0], jnp.isfinite(loss)
        later = jnp.arange(n)[None, :] > jnp.arange(n)[:, None]
        newer = jnp.sum(later & (t[None, :] == t[:, None]) & finite[None, :], axis=1)
        added = jnp.zeros(T, jnp.int32).at[t - 1].add(finite.astype(jnp.int32))
        old = jnp.minimum(jnp.arange(history)[None, :] + added[:, None], history - 1)
        shifted = jnp.take_along_axis(state.losses, old, axis=1)
        # Row T does not exist, so losses that are not finite or too old for the history are dropped.
        row = jnp.where(finite & (newer < history), t - 1, T)
        losses = shifted.at[row, history - 1 - newer].set(loss, mode="drop")
        return History(losses, jnp.minimum(state.counts + added, history))

    return Timesteps(init, sample, update)
