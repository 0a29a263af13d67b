"""The gradient noise scale: the batch size at which noise and signal in a gradient are equal. McCandlish et al. 2018.

With G the mean and Sigma the covariance of one example's gradient, B_simple = tr(Sigma) / |G|^2 (eq. 2.9). Below it,
doubling the batch nearly doubles the progress of a step. Importance sampling of t lowers it: Improved DDPM section 3.3.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion.core.array_types import Array, OneKey
from diffusion.training.state import Params, TrainState, step_keys
from diffusion.training.step import Gather, Trainable


def ratio(trace: float, square: float) -> float:
    """tr(Sigma) / |G|^2 in examples; infinite where the estimate of |G|^2 is not positive: use more parts."""
    return trace / square if square > 0 else math.inf


def estimate(mean: Params, mean_square: Array, parts: int, size: int) -> tuple[Array, Array]:
    """Unbiased estimates of tr(Sigma), per example, and of |G|^2, which may be negative as a difference of estimates.

    From the mean gradient of `parts` independent parts of `size` examples, and the mean of their squared norms.

    Two batch sizes, b = size and B = parts * size, with E|G_b|^2 = |G|^2 + tr(Sigma) / b. McCandlish et al. appendix A:

        |G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b),   tr(Sigma) = (|G_b|^2 - |G_B|^2) / (1 / b - 1 / B)

    All parts, two or more, enter both before the ratio is formed, since a ratio of noisy numbers is biased.
    """
    small, large = mean_square, optax.tree.norm(mean, squared=True)
    return size * parts / (parts - 1) * (small - large), (parts * large - small) / (parts - 1)


def measure(
    task: Trainable, gather: Gather, state: TrainState, key: OneKey, data: Any, batches: Any
) -> tuple[Array, Array]:
    """`estimate` of a task's training gradient at state.params, each batch being one part.

    `batches` has one leading entry a batch. Flips, t with its importance weights, noise and dropout are drawn as in
    training, with keys fold_in(key, i); so tr(Sigma) covers them as well as the choice of images. With antithetic t an
    "example" is half a pair: their covariance counts. Memory is that of training, whatever the number of parts.
    """
    parts = jax.tree.leaves(batches)[0].shape[0]
    pixels, _ = jax.eval_shape(gather, data, jax.tree.map(lambda x: x[0], batches))

    def part(sums: tuple[Params, Array], numbered: tuple[Array, Any]) -> tuple[tuple[Params, Array], None]:
        i, batch = numbered
        grads = task.gradient(state.params, state.timesteps, step_keys(key, i), *gather(data, batch)).grads
        return (jax.tree.map(jnp.add, sums[0], grads), sums[1] + optax.tree.norm(grads, squared=True)), None

    zero = jax.tree.map(jnp.zeros_like, state.params), jnp.float32(0)
    (total, squares), _ = jax.lax.scan(part, zero, (jnp.arange(parts), batches))
    return estimate(jax.tree.map(lambda g: g / parts, total), squares / parts, parts, pixels.shape[0])
