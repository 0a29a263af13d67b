"""Whether an update is fit to be made. Judged and counted on the device, so that no step waits for the host.

An update whose loss or gradient norm is not finite, or whose gradient norm is a spike, is skipped: parameters, average,
moments and the history of losses stay what they were, bit for bit, and only the step number goes on, so that later
steps see the batches and the noise that they would have seen. The counters are part of the training state: a resumed
run counts on.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion.core.types import Array

DECAY = 0.99
"""Of the running mean of the gradient norm: it looks back some 100 updates."""

SETTLED = 100
"""Norms in the running mean before anything counts as a spike: norms change fast at the start."""


class Guard(NamedTuple):
    """What is skipped, and when to give up."""

    patience: int = 10
    """Updates in a row that are skipped because something is not finite; from then on none is made."""
    spike: float = 0.0
    """A gradient norm above this factor times its running mean is skipped too; 0: none is."""


class Health(NamedTuple):
    """The counters."""

    streak: Array
    """Updates skipped in a row up to now since something was not finite; 0: the last one was finite."""
    since: Array
    """The step whose update began the newest streak; -1: there was none."""
    culprit: Array
    """What was not finite then: the first of `names`."""
    skipped: Array
    """Updates skipped in all, spikes among them."""
    norm: Array
    """Exponential mean of the gradient norm, started at 0; kept where spikes are looked for."""
    seen: Array
    """How many norms are in it."""


class Verdict(NamedTuple):
    """What is thought of one update."""

    fit: Array
    """Whether it is made."""
    finite: Array
    """Whether loss and gradient norm are finite."""
    norm: Array
    """The gradient's global norm."""
    health: Health
    """The counters after it."""


def start() -> Health:
    """The counters before the first update, each an array of its own: the state is donated."""
    return Health(jnp.int32(0), jnp.int32(-1), jnp.int32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))


def judge(guard: Guard, health: Health, step: Array, loss: Array, grads: Any) -> Verdict:
    """Judges the update of one step by its loss and its gradient.

    Nothing is read that the step does not read anyway: the squares summed here are those of the norm that is logged and
    clipped. They overflow where an element is above 1e19, which counts as not finite: Adam's second moment would too.
    Once the streak is as long as guard.patience every later update is skipped, finite or not, so the state stays the
    last good one however late the host hears of it.

    A spike enters the running mean as the largest norm that is none, so that a lasting rise is followed: the limit
    grows with it until updates are made again. The mean is divided by 1 - DECAY^seen, as Adam's are.
    """
    squares = [sum_of_squares(leaf) for leaf in jax.tree.leaves(grads)]
    norm = jnp.sqrt(sum(squares, jnp.float32(0)))
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    sound = finite & (health.streak < guard.patience)
    begins = ~finite & (health.streak == 0)
    # The first that is not finite; the norm, last, stands for a sum of finite squares that is infinite.
    culprit = jnp.argmin(jnp.isfinite(jnp.stack([loss, *squares, jnp.float32(jnp.nan)]))).astype(jnp.int32)
    fit, mean, seen = sound, health.norm, health.seen
    if guard.spike:
        limit = guard.spike * mean / jnp.maximum(1.0 - DECAY ** seen.astype(jnp.float32), 1e-6)
        known = (seen >= SETTLED) & (mean > 0)
        fit = sound & ~(known & (norm > limit))
        mean = jnp.where(sound, DECAY * mean + (1 - DECAY) * jnp.where(known, jnp.minimum(norm, limit), norm), mean)
        seen = seen + sound
    after = Health(
        streak=jnp.where(sound, 0, health.streak + 1),
        since=jnp.where(begins, step, health.since),
        culprit=jnp.where(begins, culprit, health.culprit),
        skipped=health.skipped + ~fit,
        norm=mean,
        seen=seen,
    )
    return Verdict(fit, finite, norm, after)


def sum_of_squares(x: Array) -> Array:
    """The sum of x^2 in float32, as a product of x with itself: a CPU's sums over a whole array are far slower."""
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim))
    return jax.lax.dot_general(x, x, ((axes, axes), ((), ())), precision="highest")


def choose(fit: Array | bool, new: Any, old: Any) -> Any:
    """`new` if fit, else `old`, leaf by leaf.

    A select and not a conditional: it fuses into the update, which reads both trees anyway, while a conditional would
    keep both alive and stop the fusion.
    """
    return jax.tree.map(lambda n, o: _either(fit, n, o), new, old)


@partial(jax.jit, inline=True)
def _either(fit: Array | bool, new: Array, old: Array) -> Array:
    return jax.lax.select(jnp.asarray(fit), new, jnp.asarray(old, new.dtype))


def names(params: Any) -> tuple[str, ...]:
    """What Health.culprit counts: the loss, the gradient of each parameter by path, the norm of them all."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    each = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return ("the loss", *(f"the gradient of {name}" for name in each), "the gradient's norm")
