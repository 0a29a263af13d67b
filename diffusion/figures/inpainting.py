"""Images whose hidden part is completed. RePaint figures 1 and 4."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure, numbered

HIDDEN = (86, 180, 233)
"""Colour of hidden pixels: the light blue of style.LINES, which no grey image has."""


def inpainting(originals: np.ndarray, known: np.ndarray, completed: np.ndarray, rows: Sequence[str] = ()) -> Any:
    """A Figure with, in each row: an image, its known part, and completions.

    originals: uint8 [R, H, W, C]; known: bool [R, H, W]; completed: uint8 [R, n, H, W, C]; rows: headings of the rows.
    Raises ValueError where the shapes do not fit together.
    """
    if known.shape != originals.shape[:3]:
        raise ValueError(f"a mask of shape {list(known.shape)} does not fit images of {list(originals.shape[:3])}")
    cells = np.concatenate([originals[:, None], originals[:, None], completed], axis=1)
    cells = np.broadcast_to(cells, (*cells.shape[:-1], 3)).copy()
    cells[:, 1] = np.where(known[..., None], cells[:, 1], np.array(HIDDEN, np.uint8))
    return image_figure(cells, ["original", "known", *numbered("completed", completed.shape[1])], rows, gaps=[1, 2])
