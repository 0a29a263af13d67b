"""Progressive generation: what the network takes for x_0 on the way from noise to data. DDPM figures 6 and 14."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.panel import panel


def progressive(hats: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row: x_0_hat at the steps, then the sample.

    hats: uint8 [N, K + 1, H, W, C], the last the sample; steps: the K values of t, falling. Raises ValueError where
    they do not fit together.
    """
    return panel(hats, [*headings(steps), "sample"], gaps=[len(steps)])


def headings(steps: Sequence[int]) -> list[str]:
    """t = 1000, then bare numbers."""
    return [f"t = {t}" if i == 0 else str(t) for i, t in enumerate(steps)]
