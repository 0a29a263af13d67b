"""Samplers side by side: point clouds of one network after the same few steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.point_cloud import show
from diffusion.figures.style import PAGE, panels, styled


@styled
def samplers(clouds: Mapping[str, Sequence[np.ndarray]], lengths: Sequence[int], data: np.ndarray) -> Any:
    """A Figure with a column for each sampler, a row for each number of steps, and the data [m, 2] in the last column.

    clouds: label -> points [n, 2] for each of `lengths`. Raises ValueError where the lengths differ.
    """
    if wrong := [name for name, column in clouds.items() if len(column) != len(lengths)]:
        raise ValueError(f"{wrong[0]} has {len(clouds[wrong[0]])} clouds for {len(lengths)} numbers of steps")
    figure, axes = panels(len(lengths), len(clouds) + 1, PAGE)
    for column, (name, points) in enumerate([*clouds.items(), ("data", [data] * len(lengths))]):
        axes[0][column].set_title(name)
        for row, cloud in enumerate(points):
            show(axes[row][column], cloud, reach=1.1)
    for row, n in enumerate(lengths):
        axes[row][0].set_ylabel(f"{n} steps")
    return figure
