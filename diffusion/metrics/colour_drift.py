"""An alarm for samples whose colours are not those of the data: grey, tinted or saturated grids.

Brightness of a channel is the mean of an image's pixels, contrast their standard deviation; both are compared between
samples and data as means over images, the image being the unit, since pixels of one image go together.
"""

from typing import NamedTuple

import numpy as np

from diffusion.data.source import Source

MEASURES = ("brightness", "contrast")
FEWEST = 8
"""Fewer images of either set raise no alarm: contrast is skewed, so a mean of few is far from normal, and the spread of
few says little about the data's."""

ERRORS, LEVELS = 4.0, 12.0
"""Limits of the alarm: standard errors, and levels of 255; both must be exceeded."""

CHANNELS = {1: ("",), 3: (" of red", " of green", " of blue")}


class Levels(NamedTuple):
    """Brightness and contrast of a set of images by channel, in levels 0..255; float64 [2, C]."""

    mean: np.ndarray
    """Over images."""
    deviation: np.ndarray
    """Standard deviation over images."""
    images: int


class Drift(NamedTuple):
    """How far samples are from data, entry by entry; float64 [2, C]."""

    levels: np.ndarray
    """Samples less data, 0..255."""
    errors: np.ndarray
    """The same in standard errors of the difference."""


def measure(pixels: np.ndarray) -> Levels:
    """The levels of images uint8 [n, H, W, C]. Raises ValueError for none, and for what is not uint8."""
    if pixels.ndim != 4 or not pixels.size or pixels.dtype != np.uint8:
        raise ValueError(f"drift is measured on images uint8 [n, H, W, C], not {pixels.dtype} {list(pixels.shape)}")
    each = np.stack([pixels.mean(axis=(1, 2), dtype=np.float64), pixels.std(axis=(1, 2), dtype=np.float64)])
    return Levels(each.mean(axis=1), each.std(axis=1), len(pixels))


def of_source(source: Source, n: int = 1024) -> Levels:
    """The levels of up to n images of a data set, evenly spread over it."""
    index = np.unique(np.linspace(0, source.size - 1, min(n, source.size)).astype(np.int64))
    return measure(source.read(index)[0])


def compare(drawn: Levels, data: Levels) -> Drift:
    """The difference of two sets, under the hypothesis that samples are as diverse as the data.

        errors = (samples - data) / (deviation_data sqrt(1 / n_samples + 1 / n_data))

    The deviation is that of the data alone: samples that are all alike would otherwise pass for certain. Where all
    images of the data have the same level a difference is infinitely many standard errors, and none is 0.
    """
    levels = drawn.mean - data.mean
    error = data.deviation * np.sqrt(1 / drawn.images + 1 / data.images)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(levels == 0, 0.0, levels / error)
    return Drift(levels, errors)


def warning(drawn: Levels, data: Levels) -> str:
    """One sentence on the entry that drifted most; empty where none is off by more than both limits.

    The first limit allows for chance: with 4 standard errors and 6 entries one grid in some 2500 raises a false alarm.
    The second ignores differences that nobody would see, however many images have them.
    """
    drift = compare(drawn, data)
    enough = min(drawn.images, data.images) >= FEWEST
    off = (np.abs(drift.errors) > ERRORS) & (np.abs(drift.levels) > LEVELS) & enough
    if not off.any():
        return ""
    worst = np.unravel_index(np.argmax(np.where(off, np.abs(drift.levels), 0.0)), off.shape)
    count = off.shape[1]
    channel = CHANNELS.get(count, tuple(f" of channel {i}" for i in range(count)))[worst[1]]
    return (
        f"samples drift from the data: {MEASURES[worst[0]]}{channel} is {drawn.mean[worst]:.0f} and not "
        f"{data.mean[worst]:.0f} of 255, {abs(drift.errors[worst]):.3g} standard errors off; this is "
        "normal only in the first steps of training"
    )
