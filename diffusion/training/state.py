"""The training state: everything that a resumed run needs, in one pytree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.core.array_types import Array, OneKey
from diffusion.core.timesteps import Timesteps
from diffusion.training import skipped_updates
from diffusion.training.skipped_updates import Health

Params = Any

# Initial weights are drawn once: full optimisation takes seconds to compile and saves none. Without optimisation the
# random bits of a network of 36 million parameters take 3 s on two cores, with level 1 they take 0.4 s.
RUN_ONCE = {"xla_backend_optimization_level": 1}


class TrainState(NamedTuple):
    """The state of training after `step` steps. Always finite: updates with NaN or infinity are skipped."""

    step: Array
    params: Params
    ema: Params
    opt_state: optax.OptState
    timesteps: Any
    key: OneKey
    """Root of all random numbers of training; step k uses fold_in(key, k)."""
    health: Health
    """Counters of the skipped updates."""


class StepKeys(NamedTuple):
    """The random keys of one training step."""

    timesteps: OneKey
    noise: OneKey
    dropout: OneKey
    augment: OneKey


def create(params: Params, optimizer: optax.GradientTransformation, timesteps: Timesteps, key: OneKey) -> TrainState:
    """The state before the first update; the moving average starts as a copy of the parameters."""
    ema = jax.tree.map(lambda p: jnp.array(p, jnp.float32), params)
    return TrainState(jnp.int32(0), params, ema, optimizer.init(params), timesteps.init(), key, skipped_updates.start())


class Fresh(NamedTuple):
    """The state before the first update, abstract and, once it is computed, as arrays."""

    like: TrainState
    """Its shapes, types and shardings: ShapeDtypeStructs."""
    make: Callable[[], TrainState]
    """Computes it on the devices."""


def step_keys(key: OneKey, step: Array) -> StepKeys:
    """The keys of one step: a pure function of (key, step), so a resumed run draws the same numbers."""
    return StepKeys(*jax.random.split(jax.random.fold_in(key, step), len(StepKeys._fields)))
