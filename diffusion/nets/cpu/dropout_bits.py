"""The masks of dropout: the random bits of jax.random, the same ones, computed in one pass over the activations.

jax lowers its generator for CPUs as a loop over whole arrays, which costs more than the convolution beside it and
seconds of compilation. Written out, it is arithmetic on the element's number and fuses with what uses it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from diffusion.core.array_types import OneKey
from diffusion.nets.dropout import Mask

Bits = UInt32[Array, "*_D"]

THREEFRY = "threefry2x32"
"""jax's name of its default generator."""


ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


PARITY = 0x1BD11BDA


MANTISSA = 23
"""Bits of a float32 that decide where in [0, 1) a uniform number lies: it is (bits >> 9) / 2^23."""


def random_bits(key: OneKey, shape: tuple[int, ...]) -> Bits:
    """jax.random.bits(key, shape), bit for bit, for keys of the default generator and up to 2^32 elements.

    Threefry-2x32 of 20 rounds (Salmon et al. 2011) on the element's number, its two words joined by exclusive or.
    """
    count, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in range(len(shape) - 1, -1, -1):
        count += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    first, second = jax.random.key_data(key)
    words = (first, second, first ^ second ^ jnp.uint32(PARITY))
    x, y = jnp.full(shape, words[0]), count + words[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation)))
        x, y = x + words[(i + 1) % 3], y + words[(i + 2) % 3] + jnp.uint32(i + 1)
    return x ^ y


_random_bits = jax.jit(random_bits, static_argnums=1, inline=True)
"""Traced once for each shape, and not for each layer."""


def bernoulli(key: OneKey, probability: float, shape: tuple[int, ...]) -> Mask:
    """jax.random.bernoulli(key, probability, shape), element for element; by it, where the generator is another."""
    config: Any = jax.config
    written_out = jax.random.key_impl(key) == THREEFRY and config.jax_threefry_partitionable
    if not written_out or math.prod(shape) >= 2**32:
        return jax.random.bernoulli(key, probability, shape)
    limit = math.ceil(float(np.float32(probability)) * 2**MANTISSA)
    return (_random_bits(key, shape) >> jnp.uint32(32 - MANTISSA)) < jnp.uint32(limit)
