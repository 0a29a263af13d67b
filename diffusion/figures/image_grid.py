"""Images in rows and columns, each pixel enlarged by a whole factor: as one picture, and as Figures with headings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from diffusion.figures.style import DPI, PAGE
from diffusion.runtime.atomic_files import written

WIDE = 1200
"""Minimum width of a Figure's images, in dots."""
BORDER, GAP = 4, 24
"""Dots between a Figure's images, and at gaps."""
HEADING = 8.0
"""Size of the headings, in points."""


def image_figure(
    cells: np.ndarray,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    gaps: Sequence[int] = (),
    row_gaps: Sequence[int] = (),
    span: int = 1,
    wide: int = WIDE,
) -> Any:
    """A matplotlib Figure of uint8 images [R, C, H, W, 1 or 3] with a heading for each row and each `span` columns.

    A single heading stands for all rows. The images are together at least `wide` dots across; the columns in `gaps` and
    the rows in `row_gaps` stand apart from those before. In a PNG saved with the figure's own resolution, the images
    are exactly these pixels.
    """
    picture, xs, ys = layout(cells, gaps, row_gaps, wide)
    xs = [float(np.mean(xs[i : i + span])) for i in range(0, len(xs), span)]
    ys = [float(np.mean(ys))] if len(rows) == 1 else ys
    height, width = picture.shape[:2]
    dpi = max(float(DPI), width / PAGE)
    dots = HEADING / 72 * dpi
    top = round(1.8 * dots) if len(columns) else 0
    left = round(0.62 * dots * max(map(len, rows)) + dots) if len(rows) else 0
    full = np.array([width + left, height + top])
    figure = Figure(figsize=tuple(full / dpi), dpi=dpi, facecolor="white")
    axes = figure.add_axes((left / full[0], 0, width / full[0], height / full[1]))
    axes.set_axis_off()
    axes.imshow(np.broadcast_to(picture, (height, width, 3)), interpolation="none", aspect="auto")
    heading = {"textcoords": "offset points", "annotation_clip": False}
    for name, x in zip(columns, xs, strict=False):
        axes.annotate(name, (x, 0), (0, 3), ha="center", va="bottom", **heading)
    for name, y in zip(rows, ys, strict=False):
        axes.annotate(name, (0, y), (-4, 0), ha="right", va="center", **heading)
    return figure


def layout(
    cells: np.ndarray, gaps: Sequence[int] = (), row_gaps: Sequence[int] = (), wide: int = WIDE, border: int = BORDER
) -> tuple[np.ndarray, list[float], list[float]]:
    """The enlarged images as one white-framed uint8 picture, and the centres of its columns and rows in its pixels.

    The enlargement is the smallest whole factor that makes the images together at least `wide` pixels across.
    """
    n_rows, n_columns, height, width, channels = cells.shape
    factor = max(1, -(-wide // (n_columns * width)))
    height, width = height * factor, width * factor
    starts = []
    for count, size, apart in ((n_columns, width, gaps), (n_rows, height, row_gaps)):
        i = np.arange(count)
        starts.append(border + i * (size + border) + GAP * sum((i >= gap for gap in apart), np.zeros_like(i)))
    xs, ys = starts
    picture = np.full((ys[-1] + height + border, xs[-1] + width + border, channels), 255, np.uint8)
    for y, row in zip(ys, cells, strict=True):
        for x, cell in zip(xs, row, strict=True):
            picture[y : y + height, x : x + width] = cell.repeat(factor, axis=0).repeat(factor, axis=1)
    return picture, [float(x + (width - 1) / 2) for x in xs], [float(y + (height - 1) / 2) for y in ys]


def square(pixels: np.ndarray, columns: int = 0) -> np.ndarray:
    """Images [N, H, W, C] as cells [R, columns, H, W, C], filled up with white ones; columns 0: nearly square."""
    columns = columns or int(np.ceil(np.sqrt(len(pixels))))
    rows = -(-len(pixels) // columns)
    cells = np.full((rows * columns, *pixels.shape[1:]), 255, np.uint8)
    cells[: len(pixels)] = pixels
    return cells.reshape(rows, columns, *pixels.shape[1:])


def image_grid(pixels: np.ndarray, columns: int = 0, min_side: int = 0) -> np.ndarray:
    """Images [N, H, W, C] as one picture of at least `min_side` pixels across, in rows of `columns` as in `square`."""
    cells = square(pixels, columns)
    factor = max(1, -(-min_side // (cells.shape[1] * cells.shape[3])))
    return layout(cells, wide=min_side, border=max(1, factor // 2))[0]


def save_image(picture: np.ndarray, path: Path) -> None:
    """Writes a uint8 picture [H, W, 1 or 3] to a file of the kind that its ending names."""
    with written(path) as place:
        Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(place)
