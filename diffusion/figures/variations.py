"""Variations of images: noised up to a step t, and denoised from there. SDEdit figure 3."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import numbered, panel


def variations(given: np.ndarray, found: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a row for each image and step: the image, and its variations from that step. Images stand apart.

    given: uint8 [R, H, W, C]; found: uint8 [R, S, n, H, W, C]; steps: the S values of t. Raises ValueError where they
    do not fit together.
    """
    count, at, n = found.shape[:3]
    if at != len(steps) or len(given) != count:
        raise ValueError(f"{len(given)} images and {len(steps)} steps do not fit variations {list(found.shape)}")
    cells = np.concatenate([np.broadcast_to(given[:, None, None], (count, at, 1, *given.shape[1:])), found], axis=2)
    cells = cells.reshape(count * at, n + 1, *given.shape[1:])
    rows = [f"t = {t}" for t in steps] * count
    return panel(cells, ["given", *numbered("varied", n)], rows, gaps=[1], row_gaps=range(at, count * at, at))
