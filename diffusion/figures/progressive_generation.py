"""Progressive generation: x_0 as the network predicts it on the way from noise to data. DDPM figures 6 and 14."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure, step_headings


def progressive(hats: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row: x_0_hat at the steps, then the sample.

    hats: uint8 [N, K + 1, H, W, C], the last the sample; steps: the K values of t, falling. Raises ValueError where
    they do not fit together.
    """
    return image_figure(hats, [*step_headings(steps), "sample"], gaps=[len(steps)])
