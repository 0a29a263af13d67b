"""The data set that needs no download: the 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn."""

from typing import Any

import numpy as np

from diffusion.data.dataset_interface import Source, in_memory

TRAIN = 1500


def digits(train: bool) -> Source:
    """Digits 0..9, grey 8x8: the first 1,500 are train, the last 297 test.

    The set's 17 levels 0..16 are spread over 0..255: round(x 255 / 16), so both ends are exact.
    """
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    part = slice(None, TRAIN) if train else slice(TRAIN, None)
    pixels = np.rint(data.images[part, :, :, None] * (255 / 16)).astype(np.uint8)
    return in_memory("digits", pixels, data.target[part], classes=10)
