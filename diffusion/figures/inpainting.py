"""Images whose hidden part is completed. RePaint figures 1 and 4."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import numbered, panel

HIDDEN = (86, 180, 233)
"""Colour of hidden pixels: the light blue of style.LINES, which no grey image has."""


def inpainting(originals: np.ndarray, known: np.ndarray, completed: np.ndarray, rows: Sequence[str] = ()) -> Any:
    """A Figure with, in each row: an image, its known part, and completions.

    originals: uint8 [R, H, W, C]; known: bool [R, H, W]; completed: uint8 [R, n, H, W, C]; rows: headings of the rows.
    Raises ValueError where the shapes do not fit together.
    """
    if known.shape != originals.shape[:3]:
        raise ValueError(f"a mask of shape {list(known.shape)} does not fit images of {list(originals.shape[:3])}")
    cells = colour(np.concatenate([originals[:, None], originals[:, None], completed], axis=1))
    cells[:, 1] = np.where(known[..., None], cells[:, 1], np.array(HIDDEN, np.uint8))
    return panel(cells, ["original", "known", *numbered("completed", completed.shape[1])], rows, gaps=[1, 2])


def colour(cells: np.ndarray) -> np.ndarray:
    """uint8 [..., 1 or 3] as [..., 3], copied."""
    return np.broadcast_to(cells, (*cells.shape[:-1], 3)).copy()
