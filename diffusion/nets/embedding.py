"""The sinusoidal encoding of the time step."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion.core.array_types import PerExample, Time

Embedding = Float[Array, "B E"]
"""The embedding of the time step, plus that of the class where there is one: an input of every block."""


def time_embedding(t: Time | PerExample, dim: int) -> Embedding:
    """Sinusoidal encoding of t, dim numbers per example, float32.

        half = dim // 2;  freq[i] = exp(-ln(10000) i / (half - 1)), i = 0 .. half - 1
        [sin(t freq[0]), ..., sin(t freq[half-1]), cos(t freq[0]), ..., cos(t freq[half-1])]

    Ho et al. 2020, appendix B, after Vaswani et al. 2017, as in the original code: all sines before all cosines, and
    the denominator half - 1, so that the last frequency is exactly 1e-4. (Ports differ: interleaved, cosines first, or
    denominator half. Weights trained with one are useless with another.)

    t is not scaled and may be fractional. An odd dim ends in a column of zeros; dim 2 and 3 have the one frequency 1,
    where the formula would divide by zero. The frequencies are computed in float64; the products t freq are float32,
    hence exact to about 1e-7 t.

    Raises ValueError for dim < 2, which has no room for a sine and a cosine.
    """
    angle = _angles(t, dim, max(dim // 2 - 1, 1))
    return _padded(jnp.sin(angle), jnp.cos(angle), dim)


def cosine_first(t: Time | PerExample, dim: int) -> Embedding:
    """The encoding of Nichol & Dhariwal's code: all cosines before all sines, freq[i] = exp(-ln(10000) i / half).

    The last frequency is 1e-4 ** ((half - 1) / half), not 1e-4. In all else as time_embedding, ValueError included.
    """
    angle = _angles(t, dim, dim // 2)
    return _padded(jnp.cos(angle), jnp.sin(angle), dim)


def _angles(t: Time | PerExample, dim: int, denominator: int) -> Float[Array, "B H"]:
    if dim < 2:
        raise ValueError(f"time embedding of width {dim}: it needs at least 2 channels, a sine and a cosine")
    freq = np.exp(-math.log(10_000) * np.arange(dim // 2) / denominator).astype(np.float32)
    return t.astype(jnp.float32)[:, None] * freq[None, :]


def _padded(first: Float[Array, "B H"], second: Float[Array, "B H"], dim: int) -> Embedding:
    return jnp.pad(jnp.concatenate([first, second], axis=1), ((0, 0), (0, dim % 2)))
