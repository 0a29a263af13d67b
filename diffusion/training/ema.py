"""Exponential moving average of the parameters, in float32."""

from typing import Any

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array


def decay(step: Array, final: float, warmup: bool) -> Array:
    """The decay used by update number step + 1.

    0 at step 0, so that the average starts from the first updated parameters (published DDPM code), then `final`; with
    `warmup`, min(final, (1 + step) / (10 + step)), with which a short run forgets its initial weights.
    """
    later = jnp.minimum(final, (1.0 + step) / (10.0 + step)) if warmup else jnp.float32(final)
    return jnp.where(step == 0, 0.0, later)


def update(ema: Any, params: Any, rate: Array) -> Any:
    """ema + (1 - rate) (params - ema), leaf by leaf."""
    return jax.tree.map(lambda e, p: e + (1.0 - rate) * (p.astype(jnp.float32) - e), ema, params)
