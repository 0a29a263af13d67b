"""Nearest neighbours of samples among training images, in pixels or in features: a test for memorised images."""

from math import prod
from typing import NamedTuple

import numpy as np

from diffusion.metrics.feature_vectors import pair, slices, squared

QUANTILE = 0.05
"""Of the distances of held-out images: samples that are closer to a training image are counted."""

SPARE = 8
"""Candidates beyond k for the exact comparison."""


def nearest(
    queries: np.ndarray, database: np.ndarray, k: int = 1, leave_out_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Indices, int64 [n, k], of the k vectors of `database` closest to each query, and distances, float64 [n, k].

    Both are [n, ...], images or features; distances are Euclidean in their units, nearest first. With `leave_out_self`
    the two are one set, and no vector is its own neighbour.

    Candidates are the k + 8 vectors with the smallest |y|^2 - 2 x.y, products of matrices in float64 about a common
    origin; theirs are then computed from differences. So the distances are those of brute force, unless more than
    8 vectors are as close as the k-th to within rounding, some 1e-15 of the largest |x|^2; which of several equals is
    named is not promised. Memory: below 1 GiB beyond the inputs. Raises ValueError for fewer than k candidates, for
    numbers that are not finite, and where the two differ in dimensions.
    """
    x, y = pair(_flat(queries), _flat(database))
    choice = len(y) - leave_out_self
    if not 0 < k <= choice:
        raise ValueError(
            f"{k} nearest of {choice} vectors: give 1 to {choice}" if choice > 0 else "no vectors to search"
        )
    origin = y.mean(axis=0, dtype=np.float64)
    index, squares = np.zeros((len(x), k), np.int64), np.zeros((len(x), k))
    for rows in slices(x):
        query = x[rows] - origin
        best, bounds = np.zeros((len(query), 0), np.int64), np.zeros((len(query), 0))
        for columns in slices(y):
            centred = y[columns] - origin
            bound = (centred**2).sum(axis=1) - 2 * query @ centred.T
            if leave_out_self and rows == columns:
                np.fill_diagonal(bound, np.inf)
            order = _smallest(bound, k + SPARE)
            best = np.hstack([best, columns.start + order])
            bounds = np.hstack([bounds, np.take_along_axis(bound, order, axis=1)])
            order = _smallest(bounds, min(k + SPARE, choice))
            best, bounds = (np.take_along_axis(array, order, axis=1) for array in (best, bounds))
        best.sort(axis=1)
        exact = np.stack([squared(x[rows], y[column]) for column in best.T], axis=1)
        order = exact.argsort(axis=1, kind="stable")[:, :k]
        index[rows], squares[rows] = (np.take_along_axis(array, order, axis=1) for array in (best, exact))
    return index, np.sqrt(squares)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), prod(x.shape[1:])) if x.ndim > 1 else x


def _smallest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k smallest values of each row, in any order; all of them where there are no more."""
    if k >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return values.argpartition(k - 1, axis=1)[:, :k]


class Memorisation(NamedTuple):
    """Distances of samples from the training images, beside those of held-out images."""

    train: int
    """Training images searched."""
    index: np.ndarray
    """[n]: the training image closest to each sample."""
    distance: np.ndarray
    """[n]: its distance."""
    held_out: np.ndarray
    """[m]: the distance of each held-out image from its closest training image."""

    @property
    def closer(self) -> float:
        """Share of samples closer to a training image than the closest 5% of held-out images.

        About 0.05 for samples of the data's own distribution, 1 for copies.
        """
        return float((self.distance < np.quantile(self.held_out, QUANTILE)).mean())

    @property
    def copies(self) -> int:
        """Samples that are a training image, bit by bit."""
        return int((self.distance == 0).sum())

    def report(self) -> dict[str, float]:
        """The numbers, for a JSON file."""
        quantiles = {"q05": 0.05, "median": 0.5, "q95": 0.95}
        sides = {"samples": self.distance, "held_out": self.held_out}
        spread = {f"{side}_{q}": float(np.quantile(d, p)) for side, d in sides.items() for q, p in quantiles.items()}
        counts = {"samples": len(self.distance), "held_out": len(self.held_out), "train": self.train}
        counts |= {"copies": self.copies}
        return {**spread, "closer": self.closer, "quantile": QUANTILE, **{k: float(n) for k, n in counts.items()}}

    def line(self) -> str:
        """The summary for a console report."""
        return (
            f"nearest     pixels: {np.median(self.distance):.4g} from a sample to its closest of {self.train} "
            f"training images, {np.median(self.held_out):.4g} from a held-out image (medians); {self.closer:.1%} of "
            f"{len(self.distance)} samples are closer than the closest {QUANTILE:.0%} of held-out images, "
            f"{self.copies} are copies"
        )


def memorisation(samples: np.ndarray, held_out: np.ndarray, train: np.ndarray) -> Memorisation:
    """The nearest training image, in pixels, of every sample and of every held-out image; [n, H, W, C] each.

    Held-out images are the comparison, as data sets hold near-duplicates themselves. Raises ValueError where one of the
    three is empty or not finite, or they differ in dimensions.
    """
    if empty := [name for name, x in (("samples", samples), ("held-out images", held_out)) if not len(x)]:
        raise ValueError(f"no {empty[0]} to compare with the training images; at least one is needed")
    index, distance = nearest(samples, train)
    return Memorisation(len(train), index[:, 0], distance[:, 0], nearest(held_out, train)[1][:, 0])
