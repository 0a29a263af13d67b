"""The reverse chain x_T -> x_0, for any sampler."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion.core.array_types import Array, Image, Keys, Noise, Time, expand, fold, from_keys, normal
from diffusion.core.forward_process import Process, prior
from diffusion.core.reverse_process import Denoiser

State = Any


class Sampler(NamedTuple):
    """One way to take a step; both functions are pure and close over the process that is sampled."""

    init: Callable[[Image], State]
    """init(x_T): the state that the sampler carries from step to step; () if none."""
    step: Callable[[Keys, State, Image, Time, Denoiser], tuple[Image, State]]
    """step(keys, state, x_t, t, denoise) -> (x_{t-1}, state); t is a step of the sampled process, one for the batch."""
    calls: int = 1
    """How often a step calls denoise."""


class Sample(NamedTuple):
    """The end of a chain, and x_0_hat at the collected steps."""

    x_0: Image
    x_0_hats: Float[Array, "K B *D"]
    """From noise to data; K = 0 if no steps were collected."""


def image_keys(seed: int, indices: Array) -> Keys:
    """One key per image, fold_in(seed, index): image i is the same whatever the batch size or number of devices."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def prior_sample(keys: Keys, process: Process, shape: tuple[int, ...]) -> Image:
    """x_T ~ p(x_T) for each key, of the given shape per image; the same for a seed however many steps follow."""
    like = jnp.zeros((keys.shape[0], *shape))
    g = prior(process, like)
    return jnp.exp(0.5 * g.log_var) * normal(fold(keys, 0), like)


def descend(
    keys: Keys, sampler: Sampler, denoise: Denoiser, x_t: Image, state: State, first: Array, last: Array
) -> tuple[Image, State]:
    """Steps first, first - 1, ..., last + 1: from x_t at t = first to x_t at t = last, and the sampler's state there.

    Random numbers of step t come from fold_in(keys[i], t), so a chain in pieces is the whole chain. The ends are
    scalars, first >= last >= 0; they may be traced: compilation does not depend on them.
    """

    def step(i: Array, carry: tuple[Image, State]) -> tuple[Image, State]:
        t = first - i
        return sampler.step(fold(keys, t), carry[1], carry[0], jnp.full(x_t.shape[0], t, jnp.int32), denoise)

    return jax.lax.fori_loop(0, first - last, step, (x_t, state))


def sample(
    keys: Keys, process: Process, sampler: Sampler, denoise: Denoiser, x_T: Image, collect: Sequence[int] = ()
) -> Sample:
    """Runs the chain from x_T at t = T to x_0. DDPM Algorithm 2 with the ancestral sampler.

    Random numbers of step t come from fold_in(keys[i], t). `collect` lists steps t in 1..T whose x_0_hat is returned
    (DDPM figure 6); each costs one network call, and memory grows with their number, not with T. Compilation does not
    depend on T or on how many are collected. Raises ValueError for a step outside 1..T.
    """
    stops = sorted(set(collect), reverse=True)
    if stops and not 1 <= stops[-1] <= stops[0] <= process.T:
        raise ValueError(f"collect = {list(collect)}: steps must lie in 1..{process.T}")

    def segment(carry: tuple[Image, State], ends: tuple[Array, Array]):
        carry = descend(keys, sampler, denoise, *carry, *ends)
        return carry, denoise(carry[0], process.base_t[jnp.full(x_T.shape[0], ends[1], jnp.int32)]).x_0

    carry = (x_T, sampler.init(x_T))
    hats = jnp.zeros((0, *x_T.shape))
    if stops:
        ends = np.array([process.T, *stops], np.int32)
        carry, hats = jax.lax.scan(segment, carry, (jnp.asarray(ends[:-1]), jnp.asarray(ends[1:])))
    last = stops[-1] if stops else process.T
    x_0, _ = descend(keys, sampler, denoise, *carry, jnp.int32(last), jnp.int32(0))
    return Sample(x_0, hats)


def noise_unless_last(keys: Keys, x_t: Image, t: Time, noise: Noise = from_keys) -> Image:
    """Standard normal noise, zero at t = 1: the last step of the published samplers returns the mean."""
    return noise(keys, x_t, t) * expand((t > 1).astype(x_t.dtype), x_t)
