"""The Fréchet distance between two sets of feature vectors, each summed up by its mean and covariance."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """The Gaussian that stands for a set of feature vectors; float64."""

    mean: np.ndarray
    """[D]."""
    covariance: np.ndarray
    """[D, D], divided by n - 1."""
    n: int
    """Vectors that it was computed from; fewer than D + 1 leave the covariance without full rank."""


def moments(features: np.ndarray) -> Moments:
    """Mean and unbiased covariance of feature vectors [n, D], in float64 whatever they come in.

    Raises ValueError for fewer than two vectors, and for one that is not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"moments need an array [n, D] of at least two feature vectors, got {list(features.shape)}")
    x = np.asarray(features, np.float64)
    if not np.isfinite(x).all():
        raise ValueError(f"{(~np.isfinite(x).all(axis=1)).sum()} of {len(x)} feature vectors are not finite")
    mean = x.mean(axis=0)
    centred = x - mean
    return Moments(mean, centred.T @ centred / (len(x) - 1), len(x))


def distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(A) + tr(B) - 2 tr (A^1/2 B A^1/2)^1/2, the squared 2-Wasserstein distance of two Gaussians.

    Fréchet 1957, Dowson and Landau 1982; with Inception features it is the FID of Heusel et al. 2017, with any others
    it is not. The last trace is computed as the sum of the singular values of A^1/2 B^1/2, with both roots from a
    symmetric eigendecomposition whose eigenvalues are clamped at 0: nothing is divided, so covariances without full
    rank need no offset, and a set has distance 0 from itself but for rounding (scipy's sqrtm fails on the former and
    loses half of the
    digits on the latter). Never negative. Raises ValueError where the two differ in their number of features.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared")
    cross = np.linalg.svd(root(a.covariance) @ root(b.covariance), compute_uv=False).sum()
    shift = ((a.mean - b.mean) ** 2).sum()
    return max(0.0, float(shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a positive semi-definite matrix; eigenvalues below 0, which are rounding, count as 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
