"""Adam with linear warm-up and global-norm clipping: DDPM appendix B. Optax's parts, on CPUs in stages."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.core.array_types import Array
from diffusion.training.skipped_updates import choose, product_of_squares, sum_of_squares

Optimizer = optax.GradientTransformationExtraArgs
"""update(grads, state, params, fit=..., norm=...) -> updates, state. The state is the old one, bit for bit, where fit
is False; norm is that of the gradients, where it was computed before. Both are optional."""


class Passes(NamedTuple):
    """How computations over all parameters are written for a platform's compiler; the values are equal."""

    stage: Callable[[Any], Any]
    """Applied to moments and parameters once they are computed."""
    squares: Callable[[Array], Array]
    """The sum of the squares of an array, for the gradient's norm."""


IN_STAGES = Passes(jax.lax.optimization_barrier, product_of_squares)
"""For CPUs. Without barriers XLA fuses moments, parameters and average into one expression: it computes the moments
once for each and copies the old ones, which it can no longer overwrite. With them it makes fewer passes over memory."""

FUSED = Passes(lambda tree: tree, sum_of_squares)
"""For accelerators, whose compilers fuse all of it; barriers there cost a fifth of a step's kernels."""


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
    passes: Passes = IN_STAGES,
) -> Optimizer:
    """Adam (AdamW where weight_decay > 0), gradients first clipped to global norm `clip` (0: not clipped).

    The gradient clipped is that of the global batch. The published TPU code clips each core's share (16 images for
    CIFAR-10) before averaging; ports that clip globally reach the same scores.
    """
    rate = skipping(optax.scale_by_learning_rate(learning_rate(lr, warmup_steps)))
    decay = (optax.add_decayed_weights(weight_decay),) if weight_decay > 0 else ()
    update = optax.chain(scale_by_adam(beta_1, beta_2, eps, passes), *decay, rate)
    return optax.chain(clip_by_norm(clip), update) if clip > 0 else update


def clip_by_norm(limit: float) -> Optimizer:
    """optax.clip_by_global_norm with a norm that was computed before: g min(1, limit / norm)."""

    def update(updates: Any, state: Any, *_: Any, norm: Array | None = None, **__: Any) -> tuple[Any, Any]:
        length = optax.tree.norm(updates) if norm is None else norm
        scale = jnp.where(length < limit, 1.0, limit / length)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

    return Optimizer(optax.clip_by_global_norm(limit).init, update)


def scale_by_adam(beta_1: float, beta_2: float, eps: float, passes: Passes = IN_STAGES) -> Optimizer:
    """Kingma & Ba 2015, Algorithm 1, without the step size: optax.scale_by_adam in stages, and with its state.

    m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2
    update = m / (1 - beta_1^k) / (sqrt(v / (1 - beta_2^k)) + eps)          k: updates made up to and with this one
    """

    def update(updates: Any, state: Any, *_: Any, fit: Array | bool = True, **__: Any) -> tuple[Any, Any]:
        count = optax.safe_increment(state.count)

        def moments(g: Array, m: Array, v: Array) -> tuple[Array, Array]:
            return choose(fit, (beta_1 * m + (1.0 - beta_1) * g, beta_2 * v + (1.0 - beta_2) * g**2), (m, v))

        pairs = jax.tree.map(moments, updates, state.mu, state.nu)
        mu, nu = passes.stage(jax.tree.transpose(jax.tree.structure(updates), None, pairs))
        left_1, left_2 = 1.0 - beta_1**count, 1.0 - beta_2**count
        direction = jax.tree.map(lambda m, v: m / left_1 / (jnp.sqrt(v / left_2) + eps), mu, nu)
        return direction, optax.ScaleByAdamState(choose(fit, count, state.count), mu, nu)

    return Optimizer(optax.scale_by_adam(beta_1, beta_2, eps).init, update)


def skipping(optimizer: optax.GradientTransformation) -> Optimizer:
    """Any of optax's transformations as an Optimizer: its state does not change where an update is skipped."""
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: Any, state: Any, params: Any = None, *, fit: Array | bool = True, **rest: Any
    ) -> tuple[Any, Any]:
        direction, new = inner.update(updates, state, params, **rest)
        return direction, choose(fit, new, state)

    return Optimizer(inner.init, update)
