"""Samples and their nearest training images, a check for memorisation. DDPM figures 12 and 15."""

from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure, numbered


def neighbours(samples: np.ndarray, nearest: np.ndarray) -> Any:
    """A Figure with a sample at the left of each row and its neighbours after it, the nearest first.

    samples: uint8 [N, H, W, C]; nearest: uint8 [N, k, H, W, C].
    """
    cells = np.concatenate([samples[:, None], nearest], axis=1)
    return image_figure(cells, ["sample", *numbered("nearest", nearest.shape[1])], gaps=[1])
