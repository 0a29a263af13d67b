"""The kernel distance: the squared maximum mean discrepancy of two sets of features under a cubic kernel."""

import numpy as np


def kid(a: np.ndarray, b: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the unbiased MMD^2 of features [n, D] and [m, D].

    The KID of Binkowski et al. 2018 where the features are Inception's. Each subset is `size` vectors of either set,
    drawn without replacement. Unbiased for any number of images, hence negative at times; the deviation (divided by
    `subsets`) is that of one subset, not of the mean. Draws come from NumPy's RandomState, whose numbers never change
    and which torch-fidelity uses too: with its seed (2020) the subsets are the same. Raises ValueError for fewer
    vectors than `size`.
    """
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = a[random.choice(len(a), size, replace=False)]
        values.append(unbiased_mmd(x, b[random.choice(len(b), size, replace=False)]))
    return float(np.mean(values)), float(np.std(values))


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) with k(x, y) = (x.y / D + 1)^3, x' another vector than x; unbiased.

    In float64: the three means differ by far less than each is. Domain: at least two vectors of either kind.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    return _mean_of_others(x) + _mean_of_others(y) - 2 * float(_kernel(x, y).mean())


def _mean_of_others(x: np.ndarray) -> float:
    """The mean kernel of two different vectors: the sum without the diagonal."""
    k = _kernel(x, x)
    np.fill_diagonal(k, 0.0)
    return float(k.sum()) / (len(x) * (len(x) - 1))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base
