"""Pictures of points of the plane, and the axes of figures that show them."""

from typing import Any

import numpy as np

from diffusion.figures.style import BLUE

REACH = 2.0
"""Figures of noised points show [-REACH, REACH]^2: the data and most of a standard normal cloud."""
FAINT = 0.72
"""Factor by which each dot darkens a pixel."""


def scatter(points: np.ndarray, side: int = 512, reach: float = 1.0, dot: int = 3) -> np.ndarray:
    """uint8 [side, side, 1]: a square dot for each of the points [N, 2], darker where they overlap, on white.

    The picture shows [-reach, reach]^2, the second coordinate upwards; what lies outside is left out.
    """
    x, y = np.asarray(points, np.float64).reshape(-1, 2).T
    column, row = (np.floor((side - 1) * (1 + v / reach) / 2 + 0.5) for v in (x, -y))
    seen = (np.abs(x) <= reach) & (np.abs(y) <= reach)
    column, row = column[seen].astype(int), row[seen].astype(int)
    counts = np.zeros((side + dot, side + dot))
    for i in range(dot):
        for j in range(dot):
            np.add.at(counts, (row + i, column + j), 1)
    start = dot // 2
    light = FAINT ** counts[start : start + side, start : start + side]
    return np.rint(255 * light).astype(np.uint8)[..., None]


def show(ax: Any, points: np.ndarray, reach: float = REACH, size: float = 0.5, color: str = BLUE) -> None:
    """Draws a cloud of points on square axes without numbers that show [-reach, reach]^2.

    In a PDF it is one picture, not thousands of circles.
    """
    ax.scatter(*points.T, s=size, c=color, alpha=0.5, linewidths=0, rasterized=True)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.4)
