"""Improved precision and recall: the share of samples that look real, and of real images that could be samples."""

import numpy as np

from diffusion.metrics.feature_vectors import Block, blocks, origin, pair, rounding, squared
from diffusion.metrics.neighbours import nearest

CHUNK = 512
"""Pairs that are compared exactly at a time."""


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Shares of `fake` on the manifold of `real` (precision), and the reverse (recall): Kynkaanniemi et al. 2019.

    A set's manifold is the union of balls about its feature vectors [n, D], each reaching to the k-th nearest other
    vector of the set; surfaces belong to it. Both sets should be equal in number, as published: recall rises and
    precision falls with more samples. Memory: below 1 GiB beyond the inputs, whatever n (50,000 of 2048 dimensions each
    included); time: four passes of 2 n^2 D float32 operations, fewer the more is covered. Raises ValueError for k or
    fewer vectors, for vectors that are not finite, and where the two differ in dimensions.
    """
    real, fake = pair(real, fake)
    if k < 1 or min(len(real), len(fake)) <= k:
        raise ValueError(f"{k}-th neighbours in {len(real)} real and {len(fake)} fake vectors: more than k are needed")
    return float(covered(fake, real, radii(real, k)).mean()), float(covered(real, fake, radii(fake, k)).mean())


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """The distance of each vector to its k-th nearest other, float64 [n]; 0 where k others equal it."""
    return nearest(x, x, k, leave_out_self=True)[1][:, -1]


def covered(queries: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """bool [n]: whether a query is within the radius of some centre.

    r^2 - |x - y|^2 comes from a product of matrices in float32 about a common origin. It decides where it exceeds its
    rounding; pairs closer to the surface are compared again from differences in float64. So the result is that of brute
    force in float64, and duplicates of vectors whose balls have no radius count.
    """
    inside, middle = np.zeros(len(queries), bool), origin(centres)
    for query in blocks(queries, middle):
        for centre in blocks(centres, middle):
            left = np.flatnonzero(~inside[query.rows])
            if not len(left):
                break
            r = radii[centre.rows]
            gap, doubt = _gap(query, left, centre, (r * r).astype(np.float32))
            doubt *= rounding(queries.shape[1])
            sure = (gap >= doubt).any(axis=1)
            gap += doubt
            inside[query.rows.start + left[sure]] = True
            for row in np.flatnonzero((gap >= 0).any(axis=1) & ~sure):
                i, near = query.rows.start + left[row], centre.rows.start + np.flatnonzero(gap[row] >= 0)
                inside[i] = _touches(queries[i], centres, radii, near)
    return inside


def _gap(query: Block, rows: np.ndarray, centre: Block, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r^2 - |x - y|^2, and the numbers |x|^2 + |y|^2 + r^2 that its rounding is relative to; [rows, centres] each."""
    gap = 2 * query.x[rows] @ centre.x.T
    size = query.squares[rows, None] + centre.squares
    gap -= size
    gap += r2
    size += r2
    return gap, size


def _touches(query: np.ndarray, centres: np.ndarray, radii: np.ndarray, near: np.ndarray) -> bool:
    """Whether a query is within the radius of one of the centres at `near`: from differences in float64."""
    parts = (near[i : i + CHUNK] for i in range(0, len(near), CHUNK))
    return any(bool((np.sqrt(squared(centres[part], query)) <= radii[part]).any()) for part in parts)
