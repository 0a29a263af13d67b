"""Interpolation between two images in the space of x_t. DDPM figure 8 (one t) and figure 9 (coarse to fine)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import panel


def interpolation(
    first: np.ndarray, second: np.ndarray, between: np.ndarray, lam: Sequence[float], rows: Sequence[str] = ()
) -> Any:
    """A Figure with, in each row: an image, the mixtures at rising lam, the other image.

    first, second: uint8 [R, H, W, C], the given images; between: uint8 [R, L, H, W, C]; lam: the L values; rows: what
    each row is, such as its t, or one for all. Raises ValueError where they do not fit together.
    """
    cells = np.concatenate([first[:, None], between, second[:, None]], axis=1)
    names = [f"{value:g}" for value in lam]
    return panel(cells, ["given", f"λ = {names[0]}", *names[1:], "given"], rows, gaps=[1, len(names) + 1])
