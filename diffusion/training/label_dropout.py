"""Label dropout: labels hidden during training, so that one network learns p(x | y) and p(x)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion.core.array_types import Labels, OneKey

LABELS = 1
"""Folded into the dropout key: labels are hidden independently of the network's dropout."""


def hidden(key: OneKey, labels: Labels, share: float, null: int) -> Labels:
    """Each label replaced by `null` with probability `share`. Ho & Salimans 2022, Algorithm 1, p_uncond.

    share = 0 changes nothing and draws nothing. The draw is that of an nn.Dropout layer: accumulation.dropout_rows
    makes it that of the whole batch where a batch is taken in parts. `key` is the step's dropout key.
    """
    rngs = {"dropout": jax.random.fold_in(key, LABELS)}
    visible = nn.Dropout(share, deterministic=False).apply({}, jnp.ones(labels.shape), rngs=rngs)
    return jnp.where(jnp.asarray(visible) > 0, labels, null)
