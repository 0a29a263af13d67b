"""Sets of feature vectors [n, D]: checks, blocks of bounded memory, exact squared distances."""

import numpy as np

ROWS = 4096
BYTES = 2**27
"""A block has at most ROWS vectors, and at most BYTES in float64: 64 MiB for the 2048 dimensions of pool_3."""


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


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|^2 along the last axis: from differences, in float64, hence without cancellation."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    return np.square(difference, out=difference).sum(axis=-1)
