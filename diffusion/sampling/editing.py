"""Pictures made from given ones, or from a common past, by the reverse chain alone: no network is trained for it.

Every function sees the network only as `denoise(x_t, t)`. Row i depends on row i of its arguments alone, and all noise
of a row on its key: rows with the same key share their noise, whatever else differs between them.
"""

from typing import NamedTuple

import jax.numpy as jnp

from diffusion.core.denoiser import Denoiser
from diffusion.core.process import Process, q_sample
from diffusion.core.types import Array, Image, Keys, PerExample, expand, fold, normal
from diffusion.sampling.loop import Sampler, descend


class Fork(NamedTuple):
    """Ends of chains that share their first steps."""

    x_0: Image
    x_t: Image
    """Where they part."""


def fork(
    shared: Keys, own: Keys, process: Process, sampler: Sampler, denoise: Denoiser, x_T: Image, t: int | Array
) -> Fork:
    """Chains driven by shared[i] from T down to t and by own[i] from there. DDPM figure 7.

    Rows with the same shared[i] and x_T[i] share x_t, and their x_0 are draws of p(x_0 | x_t); rows at other t with
    these share the chain itself. t in 0..T, a scalar that may be traced: at T nothing but x_T is shared, at 0 all is.
    With own = shared it is `loop.sample`. A sampler that draws no noise gives them all the same x_0.
    Raises ValueError for a number t outside 0..T.
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

    The two encodings have noises of their own, as in the published code. (The formula of section 4.3 mixes x_0 where
    x_t is meant.) Mixed, these have the variance noise[t]^2 ((1 - lam)^2 + lam^2), half of what the network knows at
    the middle; with `shared` both encodings have the same noise, which keeps its variance: what is decoded is then an
    encoding of (1 - lam) x_0 + lam other. To move lam alone, repeat the pair with one key: encodings and the noise of
    the chain are then the same for all lam. lam = 0 reconstructs x_0 through t, whatever `other` is, and lam = 1 does
    so with `other`. t in 0..T, a scalar that may be traced: the larger, the coarser what is kept; at 0 the images
    themselves are mixed. Raises ValueError for a number t outside 0..T.
    """
    at = _step(process, t)
    x_t = _encoded(keys, process, x_0, at, 1)
    x_t_other = _encoded(keys, process, other, at, 1 if shared else 2)
    share = expand(lam, x_0)
    mixed = (1 - share) * x_t + share * x_t_other
    return descend(keys, sampler, denoise, mixed, sampler.init(mixed), at, jnp.int32(0))[0]


def vary(keys: Keys, process: Process, sampler: Sampler, denoise: Denoiser, x_0: Image, t: int | Array) -> Image:
    """x_0_hat ~ p(x_0 | x_t),  x_t ~ q(x_t | x_0): other images that agree with x_0 in what x_t has kept of it.

    SDEdit (Meng et al. 2022), Algorithm 1 with one round, for this process: it makes variations of an image, and a
    likely image of a sketch. t in 0..T, a scalar that may be traced: at 0 it is x_0, at T a sample that knows of x_0
    what the last step leaves. It is `interpolate` at lam = 0. Raises ValueError for a number t outside 0..T.
    """
    at = _step(process, t)
    x_t = _encoded(keys, process, x_0, at, 1)
    return descend(keys, sampler, denoise, x_t, sampler.init(x_t), at, jnp.int32(0))[0]


def _encoded(keys: Keys, process: Process, x_0: Image, at: Array, which: int) -> Image:
    """x_t ~ q(x_t | x_0) with the noise of a number; the chain folds in its steps 1..T, hence the 0."""
    ts = jnp.full(x_0.shape[0], at, jnp.int32)
    return q_sample(process, x_0, ts, normal(fold(fold(keys, 0), which), x_0))


def _step(process: Process, t: int | Array) -> Array:
    if isinstance(t, int) and not 0 <= t <= process.T:
        raise ValueError(f"t = {t} is no step of this process: it must lie in 0..{process.T}")
    return jnp.asarray(t, jnp.int32)
