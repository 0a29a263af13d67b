"""Everything that a resumed run needs, in one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.timesteps import Timesteps
from diffusion.types import Array, OneKey

Params = Any


class TrainState(NamedTuple):
    """The state of training after `step` updates."""

    step: Array
    params: Params
    ema: Params
    opt_state: optax.OptState
    timesteps: Any
    key: OneKey
    """Root of all random numbers of training; step k uses fold_in(key, k)."""


class StepKeys(NamedTuple):
    """The random keys of one training step."""

    timesteps: OneKey
    noise: OneKey
    dropout: OneKey
    flip: OneKey


def create(params: Params, optimizer: optax.GradientTransformation, timesteps: Timesteps, key: OneKey) -> TrainState:
    """The state before the first update; the moving average starts as a copy of the parameters."""
    ema = jax.tree.map(lambda p: jnp.array(p, jnp.float32), params)
    return TrainState(jnp.int32(0), params, ema, optimizer.init(params), timesteps.init(), key)


def step_keys(key: OneKey, step: Array) -> StepKeys:
    """The keys of one step: a pure function of (key, step), so a resumed run draws what an uninterrupted one would."""
    return StepKeys(*jax.random.split(jax.random.fold_in(key, step), len(StepKeys._fields)))
