"""Everything that a resumed run needs, in one pytree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.core.timesteps import Timesteps
from diffusion.core.types import Array, OneKey
from diffusion.training import health
from diffusion.training.health import Health

Params = Any

# Drawing initial weights is run once: to compile that with all optimisations takes seconds and saves none. With none at
# all the random bits of a network of 36 million parameters take 3 s on two cores, with these 0.4.
RUN_ONCE = {"xla_backend_optimization_level": 1}


class TrainState(NamedTuple):
    """The state of training after `step` steps. No number in it is ever not finite: such updates are not made."""

    step: Array
    params: Params
    ema: Params
    opt_state: optax.OptState
    timesteps: Any
    key: OneKey
    """Root of all random numbers of training; step k uses fold_in(key, k)."""
    health: Health
    """Updates that were not made, and why."""


class Unguarded(NamedTuple):
    """A training state from before its health was counted, as checkpoints without a manifest hold it."""

    step: Array
    params: Params
    ema: Params
    opt_state: optax.OptState
    timesteps: Any
    key: OneKey


def unguarded(state: TrainState) -> Unguarded:
    """A state without its counters."""
    return Unguarded(state.step, state.params, state.ema, state.opt_state, state.timesteps, state.key)


def guarded(state: Unguarded, like: TrainState) -> TrainState:
    """A state with counters that start here, placed as those of `like` are."""
    return TrainState(*state, jax.device_put(health.start(), jax.tree.map(lambda x: x.sharding, like.health)))


class StepKeys(NamedTuple):
    """The random keys of one training step."""

    timesteps: OneKey
    noise: OneKey
    dropout: OneKey
    flip: OneKey


def create(params: Params, optimizer: optax.GradientTransformation, timesteps: Timesteps, key: OneKey) -> TrainState:
    """The state before the first update; the moving average starts as a copy of the parameters."""
    ema = jax.tree.map(lambda p: jnp.array(p, jnp.float32), params)
    return TrainState(jnp.int32(0), params, ema, optimizer.init(params), timesteps.init(), key, health.start())


class Fresh(NamedTuple):
    """The state before the first update: what it is like at once, its arrays when they are made."""

    like: TrainState
    """Its shapes, types and places: ShapeDtypeStructs."""
    make: Callable[[], TrainState]
    """Draws it, on the devices."""


def fresh(make: Callable[[Array], TrainState], seed: Array, places: Callable[[TrainState], Any]) -> Fresh:
    """make(seed), traced now and computed when asked for; `places` are the shardings of a state of such shapes."""
    traced = jax.jit(make)  # once, for its shapes and for its program
    shapes = jax.eval_shape(traced, seed)
    where = places(shapes)
    like = jax.tree.map(lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, where)
    program = jax.jit(lambda seed: traced(seed), out_shardings=where, compiler_options=RUN_ONCE)
    return Fresh(like, lambda: program(seed))


def step_keys(key: OneKey, step: Array) -> StepKeys:
    """The keys of one step: a pure function of (key, step), so a resumed run draws what an uninterrupted one would."""
    return StepKeys(*jax.random.split(jax.random.fold_in(key, step), len(StepKeys._fields)))
