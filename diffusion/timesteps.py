"""How training draws t: triples of pure functions with an explicit state.

    init() -> state,   sample(key, state, n) -> (t, weight),   update(state, t, loss) -> state

`weight` makes the batch mean of weight * loss an unbiased estimate of the mean over uniform t. The state is a pytree in
the training state, so it is checkpointed with it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion.types import OneKey, PerExample, Time

State = Any


class Timesteps(NamedTuple):
    """A distribution over t that may adapt to the losses seen."""

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
    """Pairs (t, T + 1 - t) with t uniform: each example is uniform, pairs cancel much of the variance. DDIM's code.

    The pairs lie next to each other in the batch; with an odd n the last example stands alone.
    """

    def sample(key: OneKey, n: int) -> Time:
        t = jax.random.randint(key, ((n + 1) // 2,), 1, T + 1)
        return jnp.stack([t, T + 1 - t], axis=1).reshape(-1)[:n]

    return _stateless(sample)
