"""Nearest neighbours of samples among training images, in pixels: a test for memorised images."""

from typing import NamedTuple

import numpy as np

QUANTILE = 0.05
"""Of the distances of held-out images: samples that are closer to a training image are counted."""


def nearest(queries: np.ndarray, database: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices, int64 [n, k], of the k images of `database` closest to each query, and distances, float64 [n, k].

    Distances are Euclidean, in levels of pixels, nearest first, and exact: squares of levels are whole numbers. Which
    of several equals is named is not promised. Memory: eight bytes a pixel of either set. Raises ValueError for fewer
    than k images, and where the two differ in dimensions.
    """
    from sklearn.neighbors import NearestNeighbors

    x, y = (images.reshape(len(images), -1).astype(np.float64) for images in (queries, database))
    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y).kneighbors(x)
    return index, distance


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
    three is empty, or they differ in dimensions.
    """
    index, distance = nearest(samples, train)
    return Memorisation(len(train), index[:, 0], distance[:, 0], nearest(held_out, train)[1][:, 0])
