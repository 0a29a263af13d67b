"""Images made from other images, or from a shared x_t, by the reverse chain; no network is trained for it.

Row i depends on row i of the arguments alone, and its noise on its key alone: rows with the same key share their noise.
The step t lies in 0..T and is a scalar that may be traced; a number outside 0..T raises ValueError.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, Keys, PerExample, expand, fold, normal
from diffusion.core.forward_process import Process, q_sample
from diffusion.core.reverse_process import Denoiser
from diffusion.sampling.sampling_loop import Sampler, descend


class Fork(NamedTuple):
    """Ends of chains that share their first steps."""

    x_0: Image
    x_t: Image
    """The last state that they share."""


def fork(
    shared: Keys, own: Keys, process: Process, sampler: Sampler, denoise: Denoiser, x_T: Image, t: int | Array
) -> Fork:
    """Chains driven by shared[i] from T down to t and by own[i] from there. DDPM figure 7.

    Rows with the same shared[i] and x_T[i] share x_t, and their x_0 are draws of p(x_0 | x_t). At t = T only x_T is
    shared, at 0 everything. With own = shared it is `sampling_loop.sample`. A sampler without noise gives all one x_0.
    """
    at = _step(process, t)
    x_t, state = descend(shared, sampler, denoise, x_T, sampler.init(x_T), jnp.int32(process.T), at)
    x_0, _ = descend(own, sampler, denoise, x_t, state, at, jnp.int32(0))
    return Fork(x_0, x_t)


def interpolate(
    keys: Keys,
    process: Process,
    sampler: Sampler,
    denoise: Denoiser,
    x_0: Image,
    other: Image,
    *,
    lam: PerExample,
    t: int | Array,
    shared: bool = False,
) -> Image:
    """x_0_hat ~ p(x_0 | (1 - lam) x_t + lam x_t'),  x_t ~ q(x_t | x_0),  x_t' ~ q(x_t | other). DDPM figures 8 and 9.

    The two encodings have independent noise, as in the published code. (The formula of section 4.3 mixes x_0 where x_t
    is meant.) Their mixture has the variance noise[t]^2 ((1 - lam)^2 + lam^2), in the middle half of what the network
    was trained on. With `shared` both have the same noise, and the mixture is an encoding of (1 - lam) x_0 + lam other.
    To vary lam alone, repeat the pair with one key. lam = 0 reconstructs x_0 through t, lam = 1 `other`. Larger t
    preserve less; at 0 the images themselves are mixed.
    """
    at = _step(process, t)
    x_t = _encoded(keys, process, x_0, at, 1)
    x_t_other = _encoded(keys, process, other, at, 1 if shared else 2)
    share = expand(lam, x_0)
    mixed = (1 - share) * x_t + share * x_t_other
    return descend(keys, sampler, denoise, mixed, sampler.init(mixed), at, jnp.int32(0))[0]


def vary(keys: Keys, process: Process, sampler: Sampler, denoise: Denoiser, x_0: Image, t: int | Array) -> Image:
    """x_0_hat ~ p(x_0 | x_t),  x_t ~ q(x_t | x_0): variations of an image that share with it what x_t preserves.

    SDEdit (Meng et al. 2022), Algorithm 1 with one round; it is `interpolate` at lam = 0. t = 0 gives x_0 itself.
    """
    at = _step(process, t)
    x_t = _encoded(keys, process, x_0, at, 1)
    return descend(keys, sampler, denoise, x_t, sampler.init(x_t), at, jnp.int32(0))[0]


def _encoded(keys: Keys, process: Process, x_0: Image, at: Array, which: int) -> Image:
    """x_t ~ q(x_t | x_0) with noise number `which`; the chain folds in its steps 1..T, so 0 is free."""
    ts = jnp.full(x_0.shape[0], at, jnp.int32)
    return q_sample(process, x_0, ts, normal(fold(fold(keys, 0), which), x_0))


def _step(process: Process, t: int | Array) -> Array:
    if isinstance(t, int) and not 0 <= t <= process.T:
        raise ValueError(f"t = {t} is no step of this process: it must lie in 0..{process.T}")
    return jnp.asarray(t, jnp.int32)
