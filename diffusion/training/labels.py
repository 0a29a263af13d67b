"""Labels hidden while training, so that one network learns the model with them and the one without."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion.core.types import Labels, OneKey

LABELS = 1
"""Folded into the dropout key: labels are hidden independently of what the network drops."""


def hidden(key: OneKey, labels: Labels, share: float, null: int) -> Labels:
    """Each label replaced by `null` with probability `share`. Ho & Salimans 2022, Algorithm 1, p_uncond.

    share = 0 leaves all as they are and draws nothing. The draw is that of an nn.Dropout layer, so that for a batch
    taken in parts it is that of the whole batch, as all of dropout is (accumulation.dropout_rows). `key` is the step's
    dropout key.
    """
    rngs = {"dropout": jax.random.fold_in(key, LABELS)}
    kept = nn.Dropout(share, deterministic=False).apply({}, jnp.ones(labels.shape), rngs=rngs)
    return jnp.where(jnp.asarray(kept) > 0, labels, null)
