"""Elementwise dropout, whose mask is drawn by a method of its own.

That method is where nets/cpu/layers.py draws the same bits faster, and where training/accumulation.py draws the mask of
a whole batch.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from diffusion.core.array_types import OneKey

Activations = Float[Array, "*_D"]
Mask = Bool[Array, "*_D"]


class Dropout(nn.Dropout):
    """Inverted dropout: an element stays with probability 1 - rate and is then divided by it. Equal to nn.Dropout.

    The key follows from the layer's name, so under one name both drop the same elements. There are no broadcast masks.
    """

    def mask(self, key: OneKey, shape: tuple[int, ...]) -> Mask:
        """True for the elements that stay: jax.random.bernoulli(key, 1 - rate, shape)."""
        return jax.random.bernoulli(key, 1.0 - self.rate, shape)

    @nn.compact
    def __call__(
        self, inputs: Activations, deterministic: bool | None = None, rng: OneKey | None = None
    ) -> Activations:
        assert not self.broadcast_dims
        if nn.merge_param("deterministic", self.deterministic, deterministic) or self.rate == 0.0:
            return inputs
        mask = self.mask(self.make_rng(self.rng_collection) if rng is None else rng, inputs.shape)
        return jnp.where(mask, inputs / (1.0 - self.rate), jnp.zeros_like(inputs))
