"""Paths of single points from noise to data, of one network by several samplers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion.figures.point_cloud import show
from diffusion.figures.style import LINES, PAGE, panels, styled

DATA = "#9a9a9a"


@styled
def trajectories(paths: Mapping[str, np.ndarray], data: np.ndarray) -> Any:
    """A Figure with a panel a sampler: its paths [S, n, 2] from x_T (circle) to x_0 (dot) over the data [m, 2]."""
    figure, (axes,) = panels(1, len(paths), 0.9 * PAGE)
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        show(ax, data, reach=2.5, color=DATA)
        for i in range(path.shape[1]):
            line = LINES[i % len(LINES)]
            ax.plot(*path[:, i].T, color=line.color, linewidth=0.7)
            ax.plot(*path[0, i], "o", color=line.color, fillstyle="none", markersize=3, markeredgewidth=0.6)
            ax.plot(*path[-1, i], "o", color=line.color, markersize=2.5)
        ax.set_title(name)
    return figure
