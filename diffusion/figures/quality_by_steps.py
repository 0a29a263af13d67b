"""A score of samples against the number of sampling steps. Improved DDPM figure 8; DDIM table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.style import PAGE, axes, line, plain_log_ticks, styled


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
        x = sorted(points)
        mean = np.array([np.mean(points[n]) for n in x])
        if not (mean > 0).all():
            raise ValueError(f"{label}: a {score} of {mean.min():g} has no place on a logarithmic axis")
        spread = np.array([np.std(points[n], ddof=1) if len(points[n]) > 1 else 0.0 for n in x])
        bars = spread if spread.any() else None
        ax.errorbar(x, mean, yerr=bars, capsize=2, elinewidth=0.8, label=label, **line(i).marked())
    ax.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel=score)
    plain_log_ticks(ax.xaxis, sorted({n for points in curves.values() for n in points}))
    plain_log_ticks(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
