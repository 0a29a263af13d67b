"""How cost grows with each of several quantities, beside linear growth."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from diffusion.figures.style import PAGE, axes, line, styled

TICKS = (1.0, 2.0, 5.0)
"""Of each decade of seconds."""


@styled
def scaling(curves: Mapping[str, tuple[Sequence[int], Sequence[float], str]]) -> Any:
    """A Figure with a panel for each quantity, on logarithmic axes; the second line is linear growth from the first.

    curves: quantity -> (its values, seconds, what they are of). Raises ValueError where there is no curve, or a value
    has no logarithm.
    """
    if not curves:
        raise ValueError("there is no cost to draw")
    rows = -(-len(curves) // 3)
    figure, _ = axes(width=PAGE, height=2.0 * rows)
    figure.clear()
    panels = figure.subplots(rows, min(3, len(curves)), squeeze=False).flat
    for ax, (name, (x, seconds, what)) in zip(panels, curves.items(), strict=False):
        if min(*x, *seconds) <= 0:
            raise ValueError(f"{name}: {min(*x, *seconds):g} has no place on a logarithmic axis")
        ax.plot(x, seconds, **line(0).marked(), label="measured")
        ax.plot(x, [seconds[0] * value / x[0] for value in x], **line(1).plain(), label="linear")
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel=f"seconds of {what}")
        ax.xaxis.set(major_locator=FixedLocator(x), major_formatter=FuncFormatter(short), minor_locator=NullLocator())
        ax.yaxis.set(
            major_locator=LogLocator(subs=TICKS if max(seconds) < 100 * min(seconds) else TICKS[:1]),
            major_formatter=FuncFormatter(short),
            minor_locator=NullLocator(),
        )
    for ax in list(panels):
        ax.set_visible(False)
    figure.axes[0].legend()
    return figure


def short(value: float, position: int | None = None) -> str:  # noqa: ARG001
    """A number in as few signs as it needs: 0.05, 200, 1024, 10k, 1M. `position` is matplotlib's, and not used."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor and value % factor == 0:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"
