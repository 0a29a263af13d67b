"""A score of samples against the number of sampling steps. Improved DDPM figure 8; DDIM table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.style import PAGE, axes, line, styled


@styled
def steps(curves: Mapping[str, Mapping[int, Sequence[float]]], score: str) -> Any:
    """A Figure of a score against sampling steps on logarithmic axes, a curve for each sampler.

    curves: label -> steps -> the score of each seed. The mean is drawn, with bars of one sample standard deviation
    where there are several. Raises ValueError if there is no curve, and for a score that is not positive.
    """
    if not curves or not all(curves.values()):
        raise ValueError("there are no scores at any number of steps to draw")
    figure, (ax,) = axes(width=0.75 * PAGE, height=2.8)
    for i, (label, points) in enumerate(curves.items()):
        x = np.array(sorted(points))
        mean = np.array([np.mean(points[n]) for n in x])
        if not (mean > 0).all():
            raise ValueError(f"{label}: a {score} of {mean.min():g} has no place on a logarithmic axis")
        spread = np.array([np.std(points[n], ddof=1) if len(points[n]) > 1 else 0.0 for n in x])
        bars = spread if spread.any() else None
        ax.errorbar(x, mean, yerr=bars, capsize=2, elinewidth=0.8, label=label, **line(i).marked())
    ax.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel=score)
    _plain_ticks(ax, sorted({n for points in curves.values() for n in points}))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _plain_ticks(ax: Any, ticks: Sequence[int]) -> None:
    """The numbers of steps themselves on the abscissa, and plain numbers on the ordinate."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
