"""Averages of the parameters in float32: an exponential one, and power-function ones, which give any other width later.

    average(T) = (gamma + 1) / T^(gamma + 1)  integral_0^T  t^gamma params(t) dt,     T updates, params(t) between two

The formula is that of a power-function average. A larger gamma forgets sooner. The width is the standard deviation of
the profile's t over T. Karras et al. 2024 (EDM2), section 3 and appendix C.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion.core.array_types import Array
from diffusion.training.optimizer import Optimizer
from diffusion.training.skipped_updates import choose
from diffusion.training.state import Params

WIDTHS = (0.05, 0.10)
"""Widths of the two averages that a run keeps, as published."""


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


class Averaged(NamedTuple):
    """The state of an optimiser that also keeps averages of the parameters."""

    inner: Any
    count: Array
    """Updates made; skipped ones do not count."""
    averages: tuple[Params, ...]
    """One for each of WIDTHS, float32."""


def gamma_of(width: float) -> float:
    """The gamma > 0 whose profile has this width, sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

    Raises ValueError for a width that no such gamma has, outside 0..1/sqrt(12).
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"width {width:g} is not above 0 and below {12**-0.5:.4f}, that of the plain mean")
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / width^2
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())


def averaged(optimizer: Optimizer) -> Optimizer:
    """The same updates, with averages of WIDTHS in the state. EDM2 eq. 2.

    The decay of update number count >= 1 is (1 - 1 / count)^(gamma + 1), which is 0 at the first.
    """
    gammas = [gamma_of(width) for width in WIDTHS]

    def init(params: Params) -> Averaged:
        copies = tuple(jax.tree.map(lambda p: jnp.array(p, jnp.float32), params) for _ in gammas)
        return Averaged(optimizer.init(params), jnp.int32(0), copies)

    def averaging(
        updates: Any, state: Averaged, params: Params, *, fit: Array | bool = True, **rest: Any
    ) -> tuple[Any, Averaged]:
        direction, inner = optimizer.update(updates, state.inner, params, fit=fit, **rest)
        count, new = state.count + 1, optax.apply_updates(params, direction)
        rates = [(1.0 - 1.0 / count.astype(jnp.float32)) ** (gamma + 1.0) for gamma in gammas]
        averages = tuple(update(old, new, rate) for old, rate in zip(state.averages, rates, strict=True))
        return direction, Averaged(inner, *choose(fit, (count, averages), (state.count, state.averages)))

    return Optimizer(init, averaging)  # pyright: ignore[reportArgumentType]


def find(opt_state: Any) -> Averaged:
    """The averages in an optimiser's state. Raises ValueError where it keeps none."""
    if not isinstance(opt_state, Averaged):
        raise ValueError("the run keeps no power-function averages; train it with config.optim.power_ema = true")
    return opt_state


def inner_product(T_a: float, gamma_a: float, T_b: float, gamma_b: float) -> float:
    """The integral over t of the product of two profiles. EDM2 appendix C.

    (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1)  min(T)^gamma' / max(T)^(gamma' + 1),  gamma' that of max(T).
    """
    (low, _), (high, later) = sorted([(T_a, gamma_a), (T_b, gamma_b)])
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (low / high) ** later / high


def reconstruction(counts: Sequence[int], count: int, width: float) -> np.ndarray:
    """weights[checkpoint, average]: the sum of stored averages that is nearest to the average of `width` at `count`.

    Least squares between the profiles, in float64; `counts` are the updates made at each checkpoint, ascending.
    Published checkpoints are every 8th of the run or closer. EDM2 section 3.2.
    """
    stored = [(float(T), gamma_of(kept)) for T in counts for kept in WIDTHS]
    matrix = np.array([[inner_product(*a, *b) for b in stored] for a in stored])
    wanted = np.array([inner_product(*a, float(count), gamma_of(width)) for a in stored])
    scale = np.diag(matrix) ** -0.5
    solved = scale * np.linalg.lstsq(matrix * np.outer(scale, scale), scale * wanted, rcond=1e-14)[0]
    return solved.reshape(-1, len(WIDTHS))
