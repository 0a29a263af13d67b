"""Sub-sequences of 0..T to sample on. A grid starts at 0, rises strictly, and gives the process vp(alpha_bar[grid]).

The published selections are stated for steps 0..T-1; here t = 1..T, so each is shifted by one and 0 put before it.
"""

from collections.abc import Sequence

import numpy as np


def full(T: int) -> np.ndarray:
    """Every step."""
    return np.arange(T + 1)


def sections(T: int, counts: Sequence[int]) -> np.ndarray:
    """counts[i] steps in the i-th of len(counts) sections of nearly equal length. Improved DDPM, "10,15,20".

    The first T mod k sections are one longer. Within a section the steps are evenly spaced, first and last included, and
    rounded half to even; a single step is the section's first. Raises ValueError where a section is shorter than its count.
    """
    size, extra = divmod(T, len(counts))
    steps, start = [], 0
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 1 <= count <= length:
            raise ValueError(f"cannot take {count} steps from section {i + 1}, which has {length} of {T}; take 1..{length}")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        steps += [start + round(stride * j) for j in range(count)]
        start += length
    return _with_zero(steps)


def strided(T: int, n: int) -> np.ndarray:
    """n steps with the smallest whole stride that gives exactly n, from the first: 1, 1 + stride, ... "ddimN".

    Raises ValueError where no whole stride gives n.
    """
    for stride in range(1, T + 1):
        steps = range(0, T, stride)
        if len(steps) == n:
            return _with_zero(steps)
    raise ValueError(f"no whole stride over {T} steps gives exactly {n}; a divisor of {T} always works")


def quadratic(T: int, n: int) -> np.ndarray:
    """Squares of n evenly spaced numbers from 0 to sqrt(0.8 T), truncated. DDIM section D.2, used for CIFAR-10.

    Near 0 several truncate to one step, which is taken once: large n give fewer steps than asked for. The chain starts
    at 0.8 T. Raises ValueError for n outside 1..T.
    """
    if not 1 <= n <= T:
        raise ValueError(f"cannot take {n} of {T} steps; take 1..{T}")
    return _with_zero(np.unique((np.linspace(0, np.sqrt(0.8 * T), n) ** 2).astype(int)))


def _with_zero(steps) -> np.ndarray:
    return np.concatenate([[0], np.asarray(steps, np.int64) + 1])
