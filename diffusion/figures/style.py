"""The style of every figure: readable in print at column width and without colour, with text saved as text.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, in an order of which the first four
differ in lightness too; every curve also has a dash pattern and a marker of its own. The import of this module sets
matplotlib's defaults.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from diffusion.runtime.atomic_files import written

COLUMN, PAGE = 3.3, 6.75
"""Widths of one and of two columns of a paper, in inches."""

DPI = 200
"""Of a curve's PNG. Pictures of pixels carry their own, so that each pixel is a whole number of dots."""

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 3.4,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.3,
        "lines.markersize": 3.5,
        "pdf.fonttype": 42,  # TrueType, embedded: text stays text; many journals refuse type 3
        "svg.fonttype": "path",
    }
)

SUFFIXES = (".png", ".pdf", ".svg")
"""Kinds of file that a figure can be written to."""


BLUE, ORANGE = "#0072b2", "#d55e00"
LINES = (
    ("#000000", "-", "o"),
    (BLUE, (0, (5, 1.5)), "s"),
    (ORANGE, (0, (1.2, 1.2)), "^"),
    ("#e69f00", (0, (6, 1.5, 1.2, 1.5)), "D"),
    ("#009e73", (0, (3, 1, 1, 1, 1, 1)), "v"),
    ("#cc79a7", (0, (9, 2)), "P"),
    ("#56b4e9", (0, (2, 2.5)), "X"),
)
"""Colour, dashes and marker of the first, second, ... curve of a figure."""


def line(i: int, marked: bool = True) -> dict[str, Any]:
    """The style of the i-th curve, for a few points joined by a line, or for a dense curve; repeats after the last."""
    color, dashes, marker = LINES[i % len(LINES)]
    return {"color": color, "linestyle": dashes, "marker": marker if marked else ""}


def plot_curves(ax: Any, curves: Mapping[str, tuple[Any, Any]]) -> None:
    """Draws (x, y) of each label as a line of its own style, with a legend where there are several."""
    for i, (label, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, **line(i, marked=False), label=label)
    if len(curves) > 1:
        ax.legend()


def axes(columns: int = 1, width: float = COLUMN, height: float = 2.3, rows: int = 1) -> tuple[Any, list[Any]]:
    """A matplotlib Figure of so many inches, and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def panels(rows: int, columns: int, width: float = PAGE) -> tuple[Any, list[list[Any]]]:
    """A Figure of so many inches across with square panels, and their axes in rows."""
    figure, flat = axes(columns, width, rows * (width - 0.2) / columns + 0.25, rows)
    return figure, [flat[i : i + columns] for i in range(0, len(flat), columns)]


def plain_log_ticks(axis: Any, ticks: Sequence[int] = ()) -> None:
    """Short numbers on a logarithmic axis: at `ticks`, by default at 1, 2 and 5 of each decade."""
    locator = FixedLocator([float(tick) for tick in ticks]) if len(ticks) else LogLocator(subs=(1, 2, 5))
    axis.set(major_locator=locator, major_formatter=FuncFormatter(short), minor_locator=NullLocator())


def short(value: float, position: int | None = None) -> str:  # noqa: ARG001
    """A number in as few characters as it needs: 0.05, 200, 1024, 10k, 1M. `position` is passed by matplotlib."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor and value % factor == 0:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def save(figure: Any, path: Path) -> None:
    """Writes a Figure to a file of the kind that its ending names; figures of the same data give the same file."""
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with written(path) as place:
        figure.savefig(place, dpi="figure", metadata=undated.get(path.suffix, {}))
