"""Adam with linear warm-up and global-norm clipping: DDPM appendix B."""

import jax.numpy as jnp
import optax

Optimizer = optax.GradientTransformation


def learning_rate(lr: float, warmup_steps: int) -> optax.Schedule:
    """lr min(k / warmup_steps, 1) at update k = 0, 1, ...: the first update of a warmed-up run is 0, as published."""
    if warmup_steps == 0:
        return optax.constant_schedule(lr)
    return lambda k: lr * jnp.minimum(k / warmup_steps, 1.0)


def adam(
    lr: float,
    *,
    warmup_steps: int = 0,
    clip: float = 0.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam (AdamW where weight_decay > 0), gradients first clipped to global norm `clip` (0: not clipped).

    The gradient clipped is that of the global batch. The published TPU code clips each core's share (16 images for
    CIFAR-10) before averaging; ports that clip globally reach the same scores.
    """
    rate = learning_rate(lr, warmup_steps)
    if weight_decay > 0:
        update = optax.adamw(rate, b1=beta_1, b2=beta_2, eps=eps, weight_decay=weight_decay)
    else:
        update = optax.adam(rate, b1=beta_1, b2=beta_2, eps=eps)
    return optax.chain(optax.clip_by_global_norm(clip), update) if clip > 0 else update
