"""An alarm for samples whose colours are not those of the data: grey, tinted or saturated grids.

Brightness of a channel is the mean of an image's pixels, contrast their standard deviation; both are compared between
samples and data as means over images, the image being the unit, since pixels of one image go together.
"""

import numpy as np

from diffusion.data.dataset_interface import Source

MEASURES = ("brightness", "contrast")
FEWEST = 8
"""Fewer images of either set raise no alarm: contrast is skewed, so a mean of few is far from normal, and the spread of
few says little about the data's."""

ERRORS, LEVELS = 4.0, 12.0
"""Limits of the alarm: standard errors, and levels of 255; both must be exceeded."""

CHANNELS = {1: ("",), 3: (" of red", " of green", " of blue")}


def measure(pixels: np.ndarray) -> np.ndarray:
    """Brightness and contrast of images uint8 [n, H, W, C] by channel, in levels 0..255; float64 [n, 2, C]."""
    return np.stack([pixels.mean(axis=(1, 2), dtype=np.float64), pixels.std(axis=(1, 2), dtype=np.float64)], axis=1)


def of_source(source: Source, n: int = 1024) -> np.ndarray:
    """The levels of up to n images of a data set, evenly spread over it."""
    index = np.unique(np.linspace(0, source.size - 1, min(n, source.size)).astype(np.int64))
    return measure(source.read(index)[0])


def warning(drawn: np.ndarray, data: np.ndarray) -> str:
    """One sentence on the entry of these levels that drifted most; empty where none is off by more than both limits.

    A standard error is deviation_data sqrt(1 / n_samples + 1 / n_data), under the hypothesis that samples are as
    diverse as the data: samples that are all alike would otherwise pass for certain. The first limit allows for chance:
    with 4 standard errors and 6 entries one grid in some 2500 raises a false alarm. The second ignores differences that
    nobody would see, however many images have them.
    """
    found, expected = drawn.mean(axis=0), data.mean(axis=0)
    error = data.std(axis=0) * np.sqrt(1 / len(drawn) + 1 / len(data))
    off = np.abs(found - expected)
    alarming = (off > ERRORS * error) & (off > LEVELS)
    if min(len(drawn), len(data)) < FEWEST or not alarming.any():
        return ""
    worst = np.unravel_index(np.argmax(np.where(alarming, off, 0.0)), off.shape)
    return (
        f"samples drift from the data: {MEASURES[worst[0]]}{CHANNELS[off.shape[1]][worst[1]]} is {found[worst]:.0f} "
        f"and not {expected[worst]:.0f} of 255; this is normal only in the first steps of training"
    )
