"""Stochastic predictions: samples that share x_t. DDPM figure 7."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure, step_headings


def forks(ends: np.ndarray, x_t: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row and a step in each column: in each block x_t bottom right, its ends around it.

    ends: uint8 [G, S, n, H, W, C] with n = k^2 - 1 (3, 8, ...); x_t: uint8 [G, S, H, W, C]; steps: the S values of t.
    Raises ValueError for another n, and where the shapes do not fit together.
    """
    groups, at, n, *shape = ends.shape
    side = round((n + 1) ** 0.5)
    if side**2 != n + 1 or side < 2:
        raise ValueError(f"{n} ends and x_t do not fill a square block; take 3 or 8 ends a step")
    if x_t.shape != (groups, at, *shape):
        raise ValueError(f"x_t has shape {list(x_t.shape)}, the ends have {list(ends.shape)}")
    blocks = np.concatenate([ends, x_t[:, :, None]], axis=2).reshape(groups, at, side, side, *shape)
    cells = blocks.swapaxes(1, 2).reshape(groups * side, at * side, *shape)
    gaps, row_gaps = (range(side, count * side, side) for count in (at, groups))
    return image_figure(cells, step_headings(steps), gaps=gaps, row_gaps=row_gaps, span=side)
