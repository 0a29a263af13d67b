"""Variations of images: noised up to a step t, and denoised from there. SDEdit figure 3."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure, numbered


def variations(originals: np.ndarray, varied: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a row for each image and step: the image, and its variations from that step; a gap between images.

    originals: uint8 [R, H, W, C]; varied: uint8 [R, S, n, H, W, C]; steps: the S values of t. Raises ValueError where
    the shapes do not fit together.
    """
    count, per_image, n, *shape = varied.shape
    if per_image != len(steps) or len(originals) != count:
        raise ValueError(f"{len(originals)} images and {len(steps)} steps do not fit variations {list(varied.shape)}")
    left = np.broadcast_to(originals[:, None, None], (count, per_image, 1, *shape))
    cells = np.concatenate([left, varied], axis=2).reshape(-1, n + 1, *shape)
    headings = ["original", *numbered("varied", n)], [f"t = {t}" for t in steps] * count
    return image_figure(cells, *headings, gaps=[1], row_gaps=range(per_image, len(cells), per_image))
