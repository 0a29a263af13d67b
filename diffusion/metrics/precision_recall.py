"""Improved precision and recall: the share of samples that look real, and of real images that could be samples."""

import numpy as np

BLOCK = 256
"""MiB of distances at a time."""


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Shares of `fake` on the manifold of `real` (precision), and the reverse (recall): Kynkaanniemi et al. 2019.

    A set's manifold is the union of balls about its feature vectors [n, D], each reaching to the k-th nearest other
    vector of the set; surfaces belong to it. Both sets should be equal in number, as published: recall rises and
    precision falls with more samples. Distances come from products of matrices, a block at a time; which side of a
    surface a vector lies on is right but for their rounding. Raises ValueError for k or fewer vectors, for vectors that
    are not finite, and where the two differ in dimensions.
    """
    return float(covered(fake, real, radii(real, k)).mean()), float(covered(real, fake, radii(fake, k)).mean())


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """The distance of each vector to its k-th nearest other, float64 [n]."""
    from sklearn.neighbors import NearestNeighbors

    distance, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()  # no vector is its own
    return distance[:, -1]


def covered(queries: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """bool [n]: whether a query is within the radius of some centre, its surface included."""
    from sklearn.metrics import pairwise_distances_chunked

    inside = lambda distances, start: (distances <= radii).any(axis=1)  # noqa: ARG005, E731
    return np.concatenate(list(pairwise_distances_chunked(queries, centres, reduce_func=inside, working_memory=BLOCK)))
