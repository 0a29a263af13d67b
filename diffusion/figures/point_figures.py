"""Figures of points of the plane: marginals, trajectories, score fields, samplers side by side, an animation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from diffusion.figures.style import BLUE, PAGE, line, panels

REACH = 2.0
"""Figures of noised points show [-REACH, REACH]^2: the data and most of a standard normal cloud."""
FAINT = 0.72
"""Factor by which each dot darkens a pixel."""
ARROWS = 17
"""Arrows on each side of the square grid."""
SCORE_REACH = 1.3
GREYS = 16
"""Levels of grey: few, so that files stay small."""
FRAME_MS, LAST_FRAME_MS = 60, 1500
"""Milliseconds for which a frame and the last frame are shown."""
GREY = "#9a9a9a"
"""Colour of the data behind trajectories."""


def scatter(points: np.ndarray, side: int = 512, reach: float = 1.0, dot: int = 3) -> np.ndarray:
    """uint8 [side, side, 1]: a square dot for each of the points [N, 2], darker where they overlap, on white.

    The picture shows [-reach, reach]^2, the second coordinate upwards; what lies outside is left out.
    """
    x, y = np.asarray(points, np.float64).reshape(-1, 2).T
    edge = reach * side / (side - 1)  # the outermost pixels are centred at reach
    counts, *_ = np.histogram2d(-y, x, side, [[-edge, edge]] * 2)
    near = np.pad(counts, dot // 2)
    covered = sum(near[i : i + side, j : j + side] for i, j in np.ndindex(dot, dot))
    return np.rint(255 * FAINT**covered).astype(np.uint8)[..., None]


def show(ax: Any, points: np.ndarray, reach: float = REACH, color: str = BLUE) -> None:
    """Draws a cloud of points on square axes without numbers that show [-reach, reach]^2.

    In a PDF it is one picture, not thousands of circles.
    """
    ax.scatter(*points.T, s=0.5, c=color, alpha=0.5, linewidths=0, rasterized=True)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.4)


def marginals(forward: np.ndarray, reverse: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with the clouds of q(x_t) above those of the chain, a column a step: points [S, n, 2] twice.

    DDPM figure 2.
    """
    figure, axes = panels(2, len(steps))
    for row, (name, clouds) in enumerate((("$q(x_t)$", forward), (r"$p_\theta(x_t)$", reverse))):
        axes[row][0].set_ylabel(name)
        for ax, cloud in zip(axes[row], clouds, strict=True):
            show(ax, cloud)
    for ax, t in zip(axes[0], steps, strict=True):
        ax.set_title(f"$t = {t}$")
    return figure


def trajectories(paths: Mapping[str, np.ndarray], data: np.ndarray) -> Any:
    """A Figure with a panel a sampler: its paths [S, n, 2] from x_T (circle) to x_0 (dot) over the data [m, 2]."""
    figure, (axes,) = panels(1, len(paths), 0.9 * PAGE)
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        show(ax, data, reach=2.5, color=GREY)
        for i in range(path.shape[1]):
            color = line(i)["color"]
            ax.plot(*path[:, i].T, color=color, linewidth=0.7)
            ax.plot(*path[0, i], "o", color=color, fillstyle="none", markersize=3, markeredgewidth=0.6)
            ax.plot(*path[-1, i], "o", color=color, markersize=2.5)
        ax.set_title(name)
    return figure


def arrow_origins() -> np.ndarray:
    """The points where arrows start: an even grid, [ARROWS^2, 2]."""
    side = np.linspace(-0.95 * SCORE_REACH, 0.95 * SCORE_REACH, ARROWS)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def score_field(arrows: np.ndarray, clouds: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure of noise[t] score [S, ARROWS^2, 2] at `arrow_origins` over points of q(x_t) [S, n, 2], a panel a step.

    Song and Ermon 2019, figure 2. Arrows of one panel have one scale; those longer than the median are shortened to it.
    """
    figure, (axes,) = panels(1, len(steps))
    for ax, arrow, cloud, t in zip(axes, arrows, clouds, steps, strict=True):
        show(ax, cloud, SCORE_REACH, color="#e69f00")
        length = np.linalg.norm(arrow, axis=1, keepdims=True)
        most = max(float(np.median(length)), 1e-12)
        arrow = arrow * np.minimum(1, most / np.maximum(length, 1e-12)) / most
        units = {"angles": "xy", "scale_units": "xy", "scale": 0.5 * ARROWS / SCORE_REACH}
        ax.quiver(*arrow_origins().T, *arrow.T, **units, width=0.005, color="black")
        ax.set_title(f"$t = {t}$")
    return figure


def samplers(clouds: Mapping[str, Sequence[np.ndarray]], lengths: Sequence[int], data: np.ndarray) -> Any:
    """A Figure with a column for each sampler, a row for each number of steps, and the data [m, 2] in the last column.

    clouds: label -> points [n, 2] for each of `lengths`.
    """
    figure, axes = panels(len(lengths), len(clouds) + 1, PAGE)
    for column, (name, points) in enumerate([*clouds.items(), ("data", [data] * len(lengths))]):
        axes[0][column].set_title(name)
        for row, cloud in enumerate(points):
            show(axes[row][column], cloud, reach=1.1)
    for row, n in enumerate(lengths):
        axes[row][0].set_ylabel(f"{n} steps")
    return figure


class Frames(NamedTuple):
    """The frames of an animation; has the `savefig` of a matplotlib Figure."""

    pictures: np.ndarray
    """uint8 [F, H, W]."""

    def savefig(self, path: Path, **settings: Any) -> None:  # noqa: ARG002
        """Writes a GIF that loops for ever; the `settings` of a matplotlib Figure are ignored."""
        frames = [Image.fromarray(picture).quantize(GREYS) for picture in self.pictures]
        durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def animation(clouds: np.ndarray) -> Frames:
    """Frames of points [F, n, 2], at least one, on their way from noise to data."""
    return Frames(np.stack([scatter(cloud, side=300, reach=1.6, dot=2)[..., 0] for cloud in clouds]))
