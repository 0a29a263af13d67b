"""Grids: the steps of the process that a sampler or a bound visits, read from a text.

"" or "full"   every step
"50"           50 evenly spaced steps with both ends                   Improved DDPM
"10,15,20"     10, 15 and 20 steps in three equal sections of 1..T     Improved DDPM
"ddim50"       50 steps with the smallest whole stride                 DDIM, Improved DDPM
"quad50"       squares of evenly spaced numbers up to 0.8 T            DDIM
"karras18"     18 steps nearest to levels of noise / signal evenly spaced in its power 1 / 7     Karras et al. 2022

A grid starts at 0 and rises strictly; vp(alpha_bar[grid]) is an ordinary process with fewer steps. The published
selections are stated for steps 0..T-1; here t = 1..T, so each is shifted by one and preceded by 0.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

Grid = Callable[[np.ndarray], np.ndarray]
"""noise / signal of the steps 0..T -> steps, rising from 0."""


def full(sigma: np.ndarray) -> np.ndarray:
    """Every step."""
    return np.arange(len(sigma))


def sections(T: int, counts: Sequence[int]) -> np.ndarray:
    """counts[i] steps in the i-th of len(counts) sections of nearly equal length. Improved DDPM, "10,15,20".

    The first T mod k sections have one step more. Within a section the chosen steps are evenly spaced, first and last
    included, and rounded half to even; a single step is the section's first. The stride is summed in floating point, as
    published: a product rounds some halves the other way. Raises ValueError if a section is shorter than its count.
    """
    if not 1 <= len(counts) <= T:
        raise ValueError(f"{len(counts)} sections do not fit {T} steps; take 1..{T}")
    size, extra = divmod(T, len(counts))
    steps, start = [], 0
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 1 <= count <= length:
            which = f"section {i + 1}, which has {length} of the {T}" if len(counts) > 1 else f"a process of {T}"
            raise ValueError(f"cannot take {count} steps from {which}; take 1..{length}")
        position, stride = 0.0, (length - 1) / max(count - 1, 1)
        for _ in range(count):
            steps.append(start + round(position))
            position += stride
        start += length
    return _with_zero(steps)


def strided(T: int, n: int) -> np.ndarray:
    """n steps 1, 1 + stride, ... with the smallest whole stride that gives n. Raises ValueError where none does."""
    stride = -(-T // n) if n > 0 else T  # the smallest that gives n or fewer
    steps = range(0, T, stride)
    if len(steps) == n:
        return _with_zero(steps)
    near = dict.fromkeys([len(steps), len(range(0, T, max(stride - 1, 1)))])
    raise ValueError(f"no whole stride over {T} steps gives exactly {n}; use {' or '.join(map(str, near))}")


def quadratic(T: int, n: int) -> np.ndarray:
    """Squares of n evenly spaced numbers from 0 to sqrt(0.8 T), truncated. DDIM section D.2, used for CIFAR-10.

    Near 0 several truncate to one step, which is taken once, so large n give fewer than n steps. The chain starts at
    0.8 T. Raises ValueError for n outside 1..T.
    """
    if not 1 <= n <= T:
        raise ValueError(f"cannot take {n} steps from a process of {T}; take 1..{T}")
    return _with_zero(np.unique((np.linspace(0, np.sqrt(0.8 * T), n) ** 2).astype(int)))


def karras(sigma: np.ndarray, n: int, rho: float = 7.0) -> np.ndarray:
    """The n steps whose noise / signal is nearest to levels evenly spaced in sigma^(1/rho). Karras et al. 2022, eq. 5.

    From the first step to T; where T has no signal its level counts as that of the step before. Levels with the same
    nearest step are taken once. Raises ValueError for n outside 1..T.
    """
    levels = np.asarray(sigma, np.float64)[1:]
    if not 1 <= n <= len(levels):
        raise ValueError(f"cannot take {n} steps from a process of {len(levels)}; take 1..{len(levels)}")
    levels = np.minimum(levels, np.max(levels, where=np.isfinite(levels), initial=0.0))
    wanted = np.linspace(levels[-1] ** (1 / rho), levels[0] ** (1 / rho), n) ** rho
    nearest = np.abs(levels[None, :] - wanted[:, None]).argmin(axis=1)
    nearest[0] = len(levels) - 1
    return _with_zero(np.unique(nearest))


def _with_zero(steps) -> np.ndarray:
    return np.concatenate([[0], np.asarray(steps, np.int64) + 1])


Build = Callable[[np.ndarray, list[int]], np.ndarray]
"""(noise / signal of the steps 0..T, the numbers in a text) -> steps, rising from 0."""

GRIDS: dict[str, tuple[str, Build]] = {
    "full": ("(?:full)?", lambda sigma, counts: full(sigma)),  # noqa: ARG005
    "10,15,20": (r"\d{1,9}(?:,\d{1,9})*", lambda sigma, counts: sections(len(sigma) - 1, counts)),
    "ddim50": (r"ddim\d{1,9}", lambda sigma, counts: strided(len(sigma) - 1, *counts)),
    "quad50": (r"quad\d{1,9}", lambda sigma, counts: quadratic(len(sigma) - 1, *counts)),
    "karras18": (r"karras\d{1,9}", lambda sigma, counts: karras(sigma, *counts)),
}
"""Example -> (pattern of such texts, how they are read)."""


def parse(text: str) -> Grid:
    """The grid of a text. Raises ValueError for a text of no form; the grid itself does so if T is too small."""
    for pattern, build in GRIDS.values():
        if re.fullmatch(pattern, text):
            return partial(_build, text, build)
    raise ValueError(f"{text!r} is not a grid of steps; write one such as 50, {', '.join(GRIDS)}")


def _build(text: str, build: Build, sigma: np.ndarray) -> np.ndarray:
    ts, T = build(sigma, [int(number) for number in re.findall(r"\d+", text)]), len(sigma) - 1
    if 2 * ts[-1] <= T:
        raise ValueError(
            f"the grid {text!r} ends at step {ts[-1]} of {T}, but sampling starts there from pure noise; use more steps"
        )
    return ts
