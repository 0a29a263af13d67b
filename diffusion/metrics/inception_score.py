"""The Inception score: high where a classifier is sure of each image and the images fill its classes evenly."""

import numpy as np
from scipy.special import entr, log_softmax

CHUNK = 1000
"""Images of which probabilities are in memory at a time."""


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp E_x KL(p(y|x) || p(y)), mean and standard deviation over splits (Salimans et al. 2016).

    `logits` [n, classes] are before the softmax; the published score takes the 1008 of the 2015 graph without the
    bias of that layer. Split i is images i n // splits to (i + 1) n // splits, in the given order, and p(y) is the mean
    over the split, so the order of the images matters and fewer images score lower; the deviation is divided by
    `splits`, not splits - 1, as published. Between 1 and the number of classes. Domain: at least as many images as
    splits.
    """
    n = len(logits)
    scores = [_score(logits[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
    """exp(H[p(y)] - E_x H[p(y|x)]), which is the mean KL; clamped at 1, below which only rounding leads."""
    n, marginal, log_likelihood = len(logits), np.zeros(logits.shape[1]), 0.0
    for i in range(0, n, CHUNK):
        log_p = log_softmax(logits[i : i + CHUNK].astype(np.float64), axis=1)
        marginal += np.exp(log_p).sum(axis=0) / n
        log_likelihood += float((np.exp(log_p) * log_p).sum()) / n
    return float(np.exp(max(0.0, entr(marginal).sum() + log_likelihood)))
