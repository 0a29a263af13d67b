"""The score of a trained network at several noise levels. Song and Ermon 2019, figure 2."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.point_cloud import show
from diffusion.figures.style import panels, styled

ARROWS = 17
"""Arrows on each side of the square grid."""
REACH = 1.3


def arrow_origins() -> np.ndarray:
    """The points where arrows start: an even grid, [ARROWS^2, 2]."""
    side = np.linspace(-0.95 * REACH, 0.95 * REACH, ARROWS)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


@styled
def score_field(arrows: np.ndarray, clouds: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure of noise[t] score [S, ARROWS^2, 2] at `arrow_origins` over points of q(x_t) [S, n, 2], a panel a step.

    Arrows of one panel have one scale; those longer than the median are shortened to it.
    """
    figure, (axes,) = panels(1, len(steps))
    for ax, arrow, cloud, t in zip(axes, arrows, clouds, steps, strict=True):
        show(ax, cloud, REACH, color="#e69f00")
        length = np.linalg.norm(arrow, axis=1, keepdims=True)
        most = max(float(np.median(length)), 1e-12)
        arrow = arrow * np.minimum(1, most / np.maximum(length, 1e-12)) / most
        units = {"angles": "xy", "scale_units": "xy", "scale": 0.5 * ARROWS / REACH}
        ax.quiver(*arrow_origins().T, *arrow.T, **units, width=0.005, color="black")
        ax.set_title(f"$t = {t}$")
    return figure
