"""Images of which a part is painted anew. RePaint figures 1 and 4."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import numbered, panel

HIDDEN = (86, 180, 233)
"""Shown where nothing is known: the light blue of style.LINES, which no grey image holds."""


def inpainting(given: np.ndarray, known: np.ndarray, found: np.ndarray, rows: Sequence[str] = ()) -> Any:
    """A Figure with, in each row: an image, what is known of it, and completions.

    given: uint8 [R, H, W, C]; known: bool [R, H, W]; found: uint8 [R, n, H, W, C]; rows: what each row is, if anything.
    Raises ValueError where they do not fit together.
    """
    if known.shape != given.shape[:3]:
        raise ValueError(f"a mask of shape {list(known.shape)} does not fit images of {list(given.shape[:3])}")
    cells = colour(np.concatenate([given[:, None], given[:, None], found], axis=1))
    cells[:, 1] = np.where(known[..., None], cells[:, 1], np.array(HIDDEN, np.uint8))
    return panel(cells, ["given", "known", *numbered("completed", found.shape[1])], rows, gaps=[1, 2])


def colour(cells: np.ndarray) -> np.ndarray:
    """uint8 [..., 1 or 3] as [..., 3], copied."""
    return np.broadcast_to(cells, (*cells.shape[:-1], 3)).copy()
