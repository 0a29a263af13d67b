"""The Fréchet distance between two sets of feature vectors, each described by its mean and covariance."""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """The Gaussian that stands for a set of feature vectors; float64."""

    mean: np.ndarray
    """[D]."""
    covariance: np.ndarray
    """[D, D], divided by n - 1."""


class Stream:
    """Mean and covariance of feature vectors that come in parts: one pass, float64, memory [D, D] for any number.

    Each part is centred on its own mean and joined to what came before (Chan, Golub and LeVeque 1979):
    S = S_a + S_b + n_a n_b / (n_a + n_b) (m_b - m_a) (m_b - m_a)^T for the sums S of centred products. No sum of raw
    squares is ever taken, so features far from 0 lose nothing. How the vectors are ordered or cut into parts changes
    the result in its rounding alone.
    """

    def __init__(self) -> None:
        self.n = 0
        """Vectors so far."""
        self._mean = self._scatter = np.zeros(())

    def add(self, features: np.ndarray) -> None:
        """Adds feature vectors [n, D] of any dtype, at least one. Raises ValueError where one is not finite."""
        if not np.isfinite(features).all():
            raise ValueError("feature vectors are not finite; leave such images out, and report it")
        part = features.astype(np.float64)
        mean, total = part.mean(axis=0), self.n + len(part)
        shift = mean - self._mean
        centred = np.vstack([part - mean, np.sqrt(self.n * len(part) / total) * shift])
        self._scatter = self._scatter + centred.T @ centred
        self._mean, self.n = self._mean + len(part) / total * shift, total

    def moments(self) -> Moments:
        """Mean and covariance of everything so far. Raises ValueError for fewer than two vectors."""
        if self.n < 2:
            raise ValueError(f"moments need at least two feature vectors, got {self.n}")
        return Moments(self._mean, self._scatter / (self.n - 1))


def moments(features: np.ndarray) -> Moments:
    """Mean and unbiased covariance of feature vectors [n, D], in float64 whatever they come in.

    Raises ValueError for fewer than two vectors, and for one that is not finite.
    """
    stream = Stream()
    stream.add(features)
    return stream.moments()


def distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(A) + tr(B) - 2 tr (A^1/2 B A^1/2)^1/2, the squared 2-Wasserstein distance of two Gaussians.

    Fréchet 1957, Dowson and Landau 1982; with Inception features it is the FID of Heusel et al. 2017, with any others
    it is not. The last trace is computed as the sum of the singular values of A^1/2 B^1/2: nothing is divided, so
    covariances without full rank need no offset, and a set has distance 0 from itself but for rounding (scipy's sqrtm
    fails on the former and loses half of the digits on the latter). Never negative.
    """
    cross = np.linalg.svd(root(a.covariance) @ root(b.covariance), compute_uv=False).sum()
    shift = ((a.mean - b.mean) ** 2).sum()
    return max(0.0, float(shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross))


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a positive semi-definite matrix; eigenvalues below 0, which are rounding, count as 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
