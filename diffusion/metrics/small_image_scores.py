"""Scores that need no published network: by classifiers of the data itself, and by distances between pixels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.source import Source
from diffusion.metrics import neighbours, small_image_features, svm_classifier

SIDE = 32
"""Labelled grey images up to this size are judged by classifiers of their own data."""

SEARCHED = 2**29
"""Bytes of training pixels that neighbours are searched among, at most."""


class Material(NamedTuple):
    """A set of samples, in memory, and the real images."""

    samples: np.ndarray
    """uint8 [n, H, W, C]."""
    source: Source
    """The training images."""
    held_out: Source


class Found(NamedTuple):
    """What a score says."""

    name: str
    """Of the result."""
    values: dict[str, float]
    series: dict[str, list[float]]
    facts: dict[str, Any]
    """What it depends on beside the samples."""
    lines: list[str]


class Score(NamedTuple):
    """A score, and the data that it is for."""

    measure: Callable[[Material], Found]
    least: int
    """Samples that it needs."""
    labelled: bool
    """Whether it trains a classifier of the data, which must be small, grey and labelled."""


def fits(source: Source) -> bool:
    """Whether data are small, grey and labelled images; what is one pixel high shows nothing."""
    return source.classes > 0 and source.shape[-1] == 1 and 1 < min(source.shape[:2]) <= max(source.shape[:2]) <= SIDE


def check(name: str, source: Source, n: int) -> None:
    """Raises ValueError where a score cannot be had for a data set, or for so few samples."""
    score = SMALL[name]
    if score.labelled and not fits(source):
        height, width, channels = source.shape
        raise ValueError(
            f"--metrics={name} needs labelled grey images of at most {SIDE}x{SIDE}; {source.name} has "
            f"{height}x{width}x{channels} and {source.classes} classes: use fid, kid or neighbours"
        )
    if n < score.least:
        raise ValueError(f"--metrics={name} needs at least {score.least} samples, got --n={n}")


def _reference(source: Source, images: int) -> dict[str, Any]:
    return {"reference": {"data": source.name, "split": "train", "images": images}}


def _classifier(m: Material) -> Found:
    score = small_image_features.score(m.source, m.held_out, m.samples)
    weights = small_image_features.classifier(m.source).digest()
    facts = {"features": f"classifier of {m.source.name} {weights}", **_reference(m.source, score.reference)}
    return Found(score.name, score.report(), {}, facts, [score.line()])


def _classes(m: Material) -> Found:
    found = svm_classifier.judge(m.source, m.held_out, m.samples)
    values = {
        "present": float((found.histogram > 0).sum()),
        "accuracy": found.accuracy,
        "confident": found.confident,
        "confident_real": found.confident_real,
    }
    series = {"histogram": [float(count) for count in found.histogram]}
    facts = {"features": "support vector classifier on pixels", **_reference(m.source, min(m.source.size, 5000))}
    return Found("classes", values, series, facts, found.lines())


def _neighbours(m: Material) -> Found:
    train, other = _first(m.source, SEARCHED), _first(m.held_out, SEARCHED // 8)
    found = neighbours.memorisation(m.samples, other, train)
    facts = {"features": found.space, **_reference(m.source, len(train))}
    return Found("neighbours", found.report(), {}, facts, [found.line()])


def _first(source: Source, most: int) -> np.ndarray:
    """The first images of a set, of so many bytes at most."""
    return source.read(np.arange(min(source.size, max(1, most // int(np.prod(source.shape))))))[0]


SMALL = {
    "fd_classifier": Score(_classifier, 2, labelled=True),
    "classes": Score(_classes, 1, labelled=True),
    "neighbours": Score(_neighbours, 1, labelled=False),
}
