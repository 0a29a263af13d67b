"""Nearest neighbours of samples among training images, in pixels: a test for memorised images."""

import numpy as np

CHUNK = 1000
"""Queries whose pixels are in memory as floats at a time."""
QUANTILE = 0.05
"""Of the distances of held-out images: samples that are closer to a training image are counted."""


def nearest(queries: np.ndarray, database: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices, int64 [n, k], of the k images of `database` closest to each query, and distances, float64 [n, k].

    Distances are Euclidean, in levels of pixels, nearest first, and exact: squares of levels are whole numbers. Which
    of several equals is named is not promised. Memory: four bytes a pixel of the database. Raises ValueError for no
    queries, for fewer than k images, and where the two differ in dimensions.
    """
    from sklearn.neighbors import NearestNeighbors

    if not len(queries) or len(database) < k:
        raise ValueError(f"the {k} nearest of {len(database)} images to {len(queries)} others: there are too few")
    x, y = (images.reshape(len(images), -1) for images in (queries, database))
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(y.astype(np.float32))
    indices, distances = [], []
    for i in range(0, len(x), CHUNK):
        part = x[i : i + CHUNK].astype(np.float32)
        indices.append(search.kneighbors(part, return_distance=False))  # its distances have float32's digits
        distances.append(np.linalg.norm(part[:, None] - y[indices[-1]].astype(np.float64), axis=2))
    index, distance = np.concatenate(indices), np.concatenate(distances)
    return index, distance


def memorisation(samples: np.ndarray, held_out: np.ndarray, train: np.ndarray) -> tuple[dict[str, float], str]:
    """Distances, in pixels, to the nearest training image, of samples and of held-out images; [n, H, W, C] each.

    Held-out images are the comparison, as data sets hold near-duplicates themselves. Raises ValueError where one of the
    three is empty, or they differ in dimensions.
    """
    return summary(nearest(samples, train)[1][:, 0], nearest(held_out, train)[1][:, 0], len(train))


def summary(samples: np.ndarray, held_out: np.ndarray, train: int) -> tuple[dict[str, float], str]:
    """Numbers and a line for a console report, from the distance of each image to the nearest of `train` ones.

    closer: the share of samples closer to a training image than the closest 5% of held-out images, about 0.05 for
    samples of the data's own distribution and 1 for copies. copies: samples that are a training image, bit by bit.
    """
    quantiles = {"q05": 0.05, "median": 0.5, "q95": 0.95}
    sides = {"samples": samples, "held_out": held_out}
    values = {f"{side}_{q}": float(np.quantile(d, p)) for side, d in sides.items() for q, p in quantiles.items()}
    closer, copies = float((samples < np.quantile(held_out, QUANTILE)).mean()), int((samples == 0).sum())
    counts = {"samples": len(samples), "held_out": len(held_out), "train": train, "copies": copies}
    values |= {"closer": closer, "quantile": QUANTILE, **{name: float(n) for name, n in counts.items()}}
    line = (
        f"nearest     pixels: {values['samples_median']:.4g} from a sample to its closest of {train} training images, "
        f"{values['held_out_median']:.4g} from a held-out image (medians); {closer:.1%} of {len(samples)} samples are "
        f"closer than the closest {QUANTILE:.0%} of held-out images, {copies} are copies"
    )
    return values, line
