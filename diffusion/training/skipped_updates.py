"""Which updates are skipped: decided and counted on the device, so that no step waits for the host.

An update whose loss or gradient norm is not finite, or whose gradient norm is a spike, is skipped: parameters, average,
moments and the history of losses stay bit for bit as they were. Only the step number advances, so that later steps see
the same batches and noise as without the skip. The counters are part of the training state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array

DECAY = 0.99
"""Decay of the running mean of the gradient norm: it covers about 100 updates."""

SETTLED = 100
"""Norms in the running mean before anything counts as a spike: norms change fast at the start."""


class Guard(NamedTuple):
    """Which updates are skipped, and when training ends."""

    patience: int = 10
    """After so many updates in a row that were not finite, all later ones are skipped."""
    spike: float = 0.0
    """An update whose gradient norm exceeds this factor times the running mean is skipped; 0: none is."""


class Health(NamedTuple):
    """Counters of the skipped updates."""

    streak: Array
    """Updates in a row, up to the last one, that were skipped because something was not finite."""
    since: Array
    """The step whose update began the latest streak; -1: there was none."""
    culprit: Array
    """What was not finite at that step: 0 the loss, else the gradient alone."""
    skipped: Array
    """Skipped updates in all, spikes included."""
    norm: Array
    """Exponential mean of the gradient norm, started at 0; updated only where spikes are detected."""
    seen: Array
    """The number of norms in it."""


def start() -> Health:
    """The counters before the first update, each an array of its own: the state is donated."""
    return Health(jnp.int32(0), jnp.int32(-1), jnp.int32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))


def product_of_squares(x: Array) -> Array:
    """The sum of x^2 in float32, as a dot product: XLA's sums over a whole array are far slower on CPUs."""
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim))
    return jax.lax.dot_general(x, x, ((axes, axes), ((), ())), precision="highest")


def sum_of_squares(x: Array) -> Array:
    """The sum of x^2 in float32, which accelerators fuse with whatever makes or reads x."""
    return jnp.sum(jnp.square(x.astype(jnp.float32)))


def check(
    guard: Guard,
    health: Health,
    step: Array,
    loss: Array,
    grads: Any,
    squares: Callable[[Array], Array] = product_of_squares,
) -> tuple[Array, Array, Array, Health]:
    """(fit, finite, norm, health): whether the update of a step is made, whether its loss and gradient are finite, the
    gradient's global norm, and the counters after it; `squares` sums the squares of one leaf.

    Costs no extra pass over memory: the sum of squares is also that of the norm that is logged and clipped. It
    overflows where an element is above 1e19, which counts as not finite: Adam's second moment would overflow too. Once
    the streak is as long as guard.patience every later update is skipped, finite or not: the state stays the last good
    one, however late the host reads the counters.

    A spike enters the running mean as the limit itself, so the limit follows a lasting rise until updates are made
    again. The mean is divided by 1 - DECAY^seen, as Adam's moments are.
    """
    norm = jnp.sqrt(sum((squares(leaf) for leaf in jax.tree.leaves(grads)), jnp.float32(0)))
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    sound = finite & (health.streak < guard.patience)
    begins = ~finite & (health.streak == 0)
    fit, mean, seen = sound, health.norm, health.seen
    if guard.spike:
        limit = guard.spike * mean / jnp.maximum(1.0 - DECAY ** seen.astype(jnp.float32), 1e-6)
        settled = (seen >= SETTLED) & (mean > 0)
        fit = sound & ~(settled & (norm > limit))
        mean = jnp.where(sound, DECAY * mean + (1 - DECAY) * jnp.where(settled, jnp.minimum(norm, limit), norm), mean)
        seen = seen + sound
    after = Health(
        streak=jnp.where(sound, 0, health.streak + 1),
        since=jnp.where(begins, step, health.since),
        culprit=jnp.where(begins, jnp.isfinite(loss).astype(jnp.int32), health.culprit),
        skipped=health.skipped + ~fit,
        norm=mean,
        seen=seen,
    )
    return fit, finite, norm, after


def choose(fit: Array | bool, new: Any, old: Any) -> Any:
    """`new` if fit, else `old`, leaf by leaf.

    A select and not a conditional: it fuses into the update, which reads both trees anyway, while a conditional would
    keep both alive and stop the fusion.
    """
    return jax.tree.map(lambda n, o: jax.lax.select(jnp.asarray(fit), n, jnp.asarray(o, n.dtype)), new, old)
