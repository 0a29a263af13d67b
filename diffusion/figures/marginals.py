"""The distribution of x_t in the forward and in the reverse process, for points of the plane. DDPM figure 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.point_cloud import show
from diffusion.figures.style import panels, styled


@styled
def marginals(forward: np.ndarray, reverse: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with the clouds of q(x_t) above those of the chain, a column a step: points [S, n, 2] twice.

    Raises ValueError where they do not fit together.
    """
    if not len(forward) == len(reverse) == len(steps):
        raise ValueError(f"{len(forward)} and {len(reverse)} clouds for {len(steps)} steps")
    figure, axes = panels(2, len(steps))
    for row, (name, clouds) in enumerate((("$q(x_t)$", forward), (r"$p_\theta(x_t)$", reverse))):
        axes[row][0].set_ylabel(name)
        for ax, cloud in zip(axes[row], clouds, strict=True):
            show(ax, cloud)
    for ax, t in zip(axes[0], steps, strict=True):
        ax.set_title(f"$t = {t}$")
    return figure
