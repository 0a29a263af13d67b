"""Scores that need no published network: by a classifier of the data itself, and by distances between pixels."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source
from diffusion.metrics import frechet, neighbours
from diffusion.metrics.first_images_of_split import Split, split
from diffusion.metrics.small_image_classifier import MOST, classifier, features, slug

SIDE = 32
"""The classifier is for labelled grey images up to this size."""

SEARCHED = 2**29
"""Upper limit of the bytes of training pixels that neighbours are searched in."""

CLEAR = 0.9
"""Probability above which a class counts as clear."""


class Score(NamedTuple):
    """The numbers of one metric, and what it prints."""

    name: str
    """Of the result."""
    values: dict[str, float]
    lines: list[str]
    facts: dict[str, Any]
    """What the numbers depend on, apart from the samples."""
    series: dict[str, list[float]] = {}  # noqa: RUF012


def fits(source: Source) -> bool:
    """Whether data are small, grey and labelled images; images one pixel high are points, not pictures."""
    return source.classes > 0 and source.shape[-1] == 1 and 1 < min(source.shape[:2]) <= max(source.shape[:2]) <= SIDE


def check(name: str, source: Source, n: int) -> None:
    """Raises ValueError where a metric does not apply to a data set, or to n samples."""
    if SMALL[name] is distance and n < 2:
        raise ValueError(f"--metrics={name} needs at least 2 samples, and there are {n}")
    if name in LABELLED and not fits(source):
        height, width, channels = source.shape
        raise ValueError(
            f"--metrics={name} needs labelled grey images of at most {SIDE}x{SIDE}; {source.name} has "
            f"{height}x{width}x{channels} and {source.classes} classes: use fid, kid or neighbours"
        )


def distance(samples: np.ndarray, train: Source, held_out: Source) -> Score:
    """The Fréchet distance of samples from all training images, in the features of their classifier.

    Comparable between sets of equal number, of one data set. The floor beside it is the distance of as many held-out
    real images, or of all that exist; NaN where there is but one. Raises ValueError for fewer than two samples and for
    data without labels.
    """
    model = classifier(train)
    real = frechet.moments(features(model, train))
    others = features(model, held_out, len(samples))
    value = frechet.distance(frechet.moments(model.features(samples)), real)
    floor = frechet.distance(frechet.moments(others), real) if len(others) > 1 else math.nan
    name, n = f"fd_{slug(train)}", len(samples)
    values = {
        name: value,
        f"{name}_samples": n,
        f"{name}_floor": floor,
        f"{name}_floor_images": len(others),
        f"{name}_reference": train.size,
        f"{name}_accuracy": model.accuracy(held_out),
    }
    beside = f", {floor:.2f} for {len(others)} held-out images" * (len(others) > 1)
    line = (
        f"{name:11} {value:.2f} for {n} samples{beside}: Fréchet distance to {train.size} training images in the "
        "features of a classifier of this data (no FID)"
    )
    return Score(name, values, [line], _facts(train, model.digest()))


def classes(samples: np.ndarray, train: Source, held_out: Source) -> Score:
    """Which classes a classifier of the data assigns samples to, and how clearly.

    A class says what a sample is closest to, not how good it is: every image, noise too, gets one. Raises ValueError
    for data without labels.
    """
    model = classifier(train)
    real = held_out.read(np.arange(min(held_out.size, MOST)))[0]
    counts = np.bincount(model.classes(samples), minlength=train.classes).tolist()
    sure, sure_real = (float((model.probabilities(x).max(axis=1) > CLEAR).mean()) for x in (samples, real))
    accuracy, present = model.accuracy(held_out), sum(count > 0 for count in counts)
    lines = [
        f"classes     {' '.join(map(str, counts))}  ({present} of {len(counts)} occur; the classifier is right on "
        f"{accuracy:.1%} of held-out real images)",
        f"clear       {sure:.0%} of samples are assigned with probability above {CLEAR} ({sure_real:.0%} of held-out "
        "real images are)",
    ]
    values = {"present": float(present), "accuracy": accuracy, "confident": sure, "confident_real": sure_real}
    facts = _facts(train, model.digest())
    return Score("classes", values, lines, facts, {"histogram": [float(count) for count in counts]})


def nearest(samples: np.ndarray, train: Source, held_out: Source) -> Score:
    """The nearest training image of each sample, in pixels: see neighbours.memorisation."""
    database = _first(train, SEARCHED)
    values, line = neighbours.memorisation(samples, _first(held_out, SEARCHED // 8), database)
    facts = {"features": "pixels", "reference": Split("train", train, len(database)).facts}
    return Score("neighbours", values, [line], facts)


def _facts(train: Source, digest: str) -> dict[str, Any]:
    return {"features": f"classifier of {train.name} {digest}", "reference": split("train", train).facts}


def _first(source: Source, most: int) -> np.ndarray:
    """The first images of a set, up to so many bytes."""
    return source.read(np.arange(min(source.size, max(1, most // int(np.prod(source.shape))))))[0]


SMALL: dict[str, Callable[[np.ndarray, Source, Source], Score]] = {
    "fd_classifier": distance,
    "classes": classes,
    "neighbours": nearest,
}
"""(samples, uint8 [n, H, W, C], training images, held-out images) -> score."""

LABELLED = ("fd_classifier", "classes")
"""Those that train a classifier of the data, which must be small, grey and labelled."""
