"""Dropout with the random bits of jax.random, the same ones, made in one pass over the activations.

jax lowers its generator for CPUs as a loop over whole arrays, which costs more than the convolution beside it and
seconds of compilation. Written out, it is arithmetic on the element's number and fuses with what uses it.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, UInt32

from diffusion.core.types import OneKey
from diffusion.nets.cpu.random_bits import kept

Activations = Float[Array, "*_D"]
Bits = UInt32[Array, "*_D"]
Mask = Bool[Array, "*_D"]


class Dropout(nn.Dropout):
    """Elementwise, inverted: what is kept, with probability 1 - rate, is divided by it. Flax's, mask by mask.

    The key follows from the layer's name, so under one name both drop the same. Masks are never shared along an axis.
    """

    @nn.compact
    def __call__(
        self, inputs: Activations, deterministic: bool | None = None, rng: OneKey | None = None
    ) -> Activations:
        assert not self.broadcast_dims
        if nn.merge_param("deterministic", self.deterministic, deterministic) or self.rate == 0.0:
            return inputs
        keep = 1.0 - self.rate
        mask = kept(self.make_rng(self.rng_collection) if rng is None else rng, keep, inputs.shape)
        return jnp.where(mask, inputs / keep, jnp.zeros_like(inputs))
