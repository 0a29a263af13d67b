"""Sets of feature vectors [n, D]: checks, and passes over them in blocks of bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ROWS = 4096
BYTES = 2**27
"""A block has at most ROWS vectors, and at most BYTES in float64: 64 MiB for the 2048 dimensions of pool_3."""


class Block(NamedTuple):
    """Consecutive vectors, moved by -origin, for products of matrices in float32."""

    rows: slice
    x: np.ndarray
    """float32 [b, D]."""
    squares: np.ndarray
    """|x|^2, float32 [b], summed in float64."""


def checked(features: np.ndarray) -> np.ndarray:
    """The array itself. Raises ValueError if it is not [n, D] with D > 0, or if a vector is not finite."""
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"feature vectors come as an array [n, D], got {list(features.shape)}")
    if broken := sum(int((~np.isfinite(features[rows]).all(axis=1)).sum()) for rows in slices(features)):
        raise ValueError(f"{broken} of {len(features)} feature vectors are not finite; leave them out, and report it")
    return features


def pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, checked. Raises ValueError also where they differ in their number of features."""
    if a.ndim == b.ndim == 2 and a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared")
    return checked(a), checked(b)


def slices(x: np.ndarray) -> list[slice]:
    """Where the blocks of [n, D] begin and end; the same for every set of vectors of one width."""
    rows = max(1, min(ROWS, BYTES // (8 * x.shape[1])))
    return [slice(start, min(start + rows, len(x))) for start in range(0, len(x), rows)]


def origin(x: np.ndarray) -> np.ndarray:
    """The mean, float64 [D], of at most ROWS vectors spread over the set.

    Moving both sets by it keeps all distances. The closer the vectors are to 0, the less |x|^2 + |y|^2 - 2 x.y in
    float32 loses to cancellation.
    """
    step = -(-len(x) // min(ROWS, BYTES // (8 * x.shape[1]) + 1))
    return x[::step].mean(axis=0, dtype=np.float64)


def blocks(x: np.ndarray, origin: np.ndarray) -> Iterator[Block]:
    """x - origin, block by block; the difference is taken in float64, then rounded."""
    for rows in slices(x):
        part = (x[rows] - origin).astype(np.float32)
        yield Block(rows, part, np.square(part, dtype=np.float64).sum(axis=1).astype(np.float32))


def rounding(width: int) -> np.float32:
    """The largest error of |x|^2 + |y|^2 - 2 x.y from `blocks`, relative to |x|^2 + |y|^2.

    (8 + 8 sqrt(D)) 2^-24: the bound of Higham and Mary 2019 on a sum of D terms whose roundings are independent, with a
    factor of which 2e-14 of all products may fall short; those of the vectors and of the last sums are in the first 8.
    """
    return np.float32((8 + 8 * width**0.5) * 2.0**-24)


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|^2 along the last axis: from differences, in float64, hence without cancellation."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return np.square(difference, out=difference).sum(axis=-1)
