"""The data set that needs no download: the 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.data.source import Source, in_memory

TRAIN = 1500


def digits(train: bool) -> Source:
    """Digits 0..9, grey 8x8: the first 1,500 are train, the last 297 test.

    The set's 17 levels 0..16 are spread over 0..255: round(x 255 / 16), so both ends are exact.
    """
    part = slice(None, TRAIN) if train else slice(TRAIN, None)
    images, labels = _published()
    pixels = np.rint(images[part, :, :, None] * (255 / 16)).astype(np.uint8)
    return in_memory("digits", pixels, labels[part], classes=10)


@cache
def _published() -> tuple[np.ndarray, np.ndarray]:
    """Levels [1797, 8, 8] and labels [1797], as sklearn.datasets.load_digits has them.

    Read from the table in scikit-learn's folder, since to import it takes a second of every start.
    """
    spec = find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "datasets" / "data" / "digits.csv.gz" if folders else None
    if path is None or not path.is_file():
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        return found.images, found.target
    table = np.loadtxt(path, delimiter=",")  # 64 levels and the label
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
