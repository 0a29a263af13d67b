"""The Inception score: high where a classifier is sure of each image and the images fill its classes evenly."""

import numpy as np

from diffusion.metrics.feature_vectors import checked, slices


def inception_score(logits: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp E_x KL(p(y|x) || p(y)), mean and standard deviation over splits (Salimans et al. 2016).

    `logits` [n, classes] are before the softmax; the published score takes the 1008 of the 2015 graph without the
    bias of that layer. Split i is images i n // splits to (i + 1) n // splits, in the given order, and p(y) is the mean
    over the split, so the order of the images matters and fewer images score lower; the deviation is divided by
    `splits`, not splits - 1, as published. Between 1 and the number of classes. Raises ValueError for fewer images than
    splits, and for logits that are not finite.
    """
    x = checked(logits)
    if not 0 < splits <= len(x):
        raise ValueError(f"{splits} splits of {len(x)} images: give 1 to {len(x)} splits")
    scores = [_score(x[i * len(x) // splits : (i + 1) * len(x) // splits]) for i in range(splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
    """exp(H[p(y)] - E_x H[p(y|x)]), which is the mean KL, so that one pass in blocks suffices.

    p log p of one image uses its log-softmax, finite whatever the logits; in p(y) a class without any probability, its
    p below 1e-308, adds 0. Clamped at 1, below which only rounding leads.
    """
    marginal, p_log_p = np.zeros(logits.shape[1]), 0.0
    for rows in slices(logits):
        part = logits[rows].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        log_p = part - np.log(np.exp(part).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        marginal += p.sum(axis=0)
        p_log_p += float((p * log_p).sum())
    marginal = marginal[marginal > 0] / len(logits)
    return float(np.exp(max(0.0, p_log_p / len(logits) - float((marginal * np.log(marginal)).sum()))))
