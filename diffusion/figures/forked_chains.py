"""Stochastic predictions: samples that share x_t. DDPM figure 7."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import panel
from diffusion.figures.progressive import headings


def forks(ends: np.ndarray, x_t: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row and a step in each column: in each block x_t bottom right, its ends around it.

    ends: uint8 [G, S, n, H, W, C] with n = k^2 - 1 (3, 8, ...); x_t: uint8 [G, S, H, W, C]; steps: the S values of t.
    Raises ValueError for another n, and where the shapes do not fit together.
    """
    n = ends.shape[2]
    side = round((n + 1) ** 0.5)
    if side**2 != n + 1 or side < 2:
        raise ValueError(f"{n} ends and x_t do not fill a square block; take 3 or 8 ends a step")
    if x_t.shape != (*ends.shape[:2], *ends.shape[3:]):
        raise ValueError(f"x_t has shape {list(x_t.shape)}, the ends have {list(ends.shape)}")
    cells = np.concatenate([ends, x_t[:, :, None]], axis=2)
    groups, at, _, height, width, channels = cells.shape
    blocks = cells.reshape(groups, at, side, side, height, width, channels).transpose(0, 2, 1, 3, 4, 5, 6)
    blocks = blocks.reshape(groups * side, at * side, height, width, channels)
    apart = [range(side, count * side, side) for count in (at, groups)]
    return panel(blocks, headings(steps), gaps=apart[0], row_gaps=apart[1], span=side)
