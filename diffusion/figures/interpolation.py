"""Interpolation between two images in the space of x_t. DDPM figure 8 (one t) and figure 9 (coarse to fine)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure


def interpolation(
    first: np.ndarray, second: np.ndarray, mixtures: np.ndarray, lam: Sequence[float], rows: Sequence[str] = ()
) -> Any:
    """A Figure with, in each row: an image, the mixtures at rising lam, the other image.

    first, second: uint8 [R, H, W, C]; mixtures: uint8 [R, L, H, W, C]; lam: the L shares of the second image; rows: a
    heading for each row, such as its t, or one for all. Raises ValueError where the shapes do not fit together.
    """
    cells = np.concatenate([first[:, None], mixtures, second[:, None]], axis=1)
    names = [f"{value:g}" for value in lam]
    return image_figure(cells, ["original", f"λ = {names[0]}", *names[1:], "original"], rows, gaps=[1, len(names) + 1])
