"""Training steps per second against chips, from compiled programs, beside a published speed."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusion.figures.style import COLUMN, ORANGE, axes, line, plain_log_ticks, styled
from diffusion.planning.memory_and_time import SHARE
from diffusion.planning.report_csv import Record

PUBLISHED = 21.0
"""Training steps per second of the paper's CIFAR-10 run on a TPU v3-8. Ho et al. 2020, appendix B."""


def rates(programs: Sequence[Record]) -> Mapping[str, list[float]]:
    """Steps per second of each program at the peaks, with and without overlap of kernels and collectives, and without
    at SHARE of the arithmetic peak."""
    return {
        "roofline": [1 / max(p.arithmetic, p.traffic, p.links) for p in programs],
        "no overlap": [1 / (max(p.arithmetic, p.traffic) + p.links) for p in programs],
        f"no overlap, {SHARE:.0%} of peak": [1 / (max(p.arithmetic / SHARE, p.traffic) + p.links) for p in programs],
    }


@styled
def speed_by_chips(programs: Sequence[Record], check: Record, published: float = PUBLISHED) -> Any:
    """A Figure of one config's programs on more and more chips of a kind, on logarithmic axes.

    check: the program whose `published` steps per second were measured. Raises ValueError where there are no programs.
    """
    if not programs:
        raise ValueError("there are no programs to draw: compile some with scripts/plan.py --csv=FILE")
    programs = sorted(programs, key=lambda p: p.chips)
    figure, (ax,) = axes(width=1.4 * COLUMN, height=2.6)
    chips = [p.chips for p in programs]
    for i, (label, values) in enumerate(rates(programs).items()):
        ax.plot(chips, values, **line(i).marked(), label=label)
    expected = [value for (value,) in rates([check]).values()]
    ends = [min(expected), max(expected)]
    ax.plot([check.chips] * 2, ends, color=ORANGE, lw=3, alpha=0.5, label="TPU v3-8, compiled")
    ax.plot([check.chips], [published], "*", ms=8, color=ORANGE, label="TPU v3-8, published")
    ax.set(xscale="log", yscale="log", xlabel=f"chips ({programs[0].model})", ylabel="steps/s")
    plain_log_ticks(ax.xaxis, chips)
    plain_log_ticks(ax.yaxis)
    figure.legend(loc="outside right upper")
    return figure
