"""How cost grows with each of several quantities, beside linear growth."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusion.figures.style import PAGE, axes, line, plain_log_ticks, styled

COLUMNS = 3


@styled
def cost_growth(curves: Mapping[str, tuple[Sequence[int], Sequence[float], str]]) -> Any:
    """A Figure with a panel for each quantity, on logarithmic axes; the second line is linear growth from the first.

    curves: quantity -> (its values, seconds, what they are of). Raises ValueError where there is no curve, or a value
    has no logarithm.
    """
    if not curves:
        raise ValueError("there is no cost to draw")
    rows = -(-len(curves) // COLUMNS)
    figure, panels = axes(min(COLUMNS, len(curves)), PAGE, 2.0 * rows, rows)
    for ax, (name, (x, seconds, what)) in zip(panels, curves.items(), strict=False):
        if min(*x, *seconds) <= 0:
            raise ValueError(f"{name}: {min(*x, *seconds):g} has no place on a logarithmic axis")
        ax.plot(x, seconds, **line(0).marked(), label="measured")
        ax.plot(x, [seconds[0] * value / x[0] for value in x], **line(1).plain(), label="linear")
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel=f"seconds of {what}")
        plain_log_ticks(ax.xaxis, x)
        plain_log_ticks(ax.yaxis)
    for ax in panels[len(curves) :]:
        ax.set_visible(False)
    panels[0].legend()
    return figure
