"""Loss and FID of a run by step, beside those of an independent run of the published recipe."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.loss_curve import curve
from diffusion.figures.style import BLUE, ORANGE, PAGE, axes, plain_log_ticks, styled

STEPS = (10_000, 20_000, 50_000, 100_000, 200_000, 400_000, 800_000)
FIDS = (2, 3, 4, 6, 10, 20, 50, 100, 200, 400)
"""Ticks of the axes of FID."""

Points = Sequence[tuple[int, float]]
"""(step, value)."""


def band(points: Points, tolerance: float, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge at steps: `points` joined by straight lines in the logarithms, times 1 - and + tolerance.

    Constant outside of the points.
    """
    steps, values = np.log(np.asarray(points, float)).T
    middle = np.exp(np.interp(np.log(at), steps, values))
    return middle * (1 - tolerance), middle * (1 + tolerance)


@styled
def milestones(
    lines: Sequence[Mapping[str, Any]],
    scores: Sequence[tuple[int, float, str]],
    loss: Points,
    fid: Points,
    start: float,
    tolerance: float,
    title: str,
    remark: str = "",
) -> Any:
    """A matplotlib Figure: L_simple (left) and FID (right) of a run, in the expected bands.

    lines: those of a metrics file. scores: (step, FID, how its protocol departs from the milestones'; "" if it does
    not); those that depart are hollow. loss, fid: the milestones. start: the loss before training; before the first
    milestone the expected range is a paler area. Raises ValueError where the run has no logged loss and no score.
    """
    steps, values = curve(lines, "train/mse")
    if not len(steps) and not scores:
        raise ValueError("there is no train/mse in this metrics file and no FID among the results: nothing to draw")
    figure, (left, right) = axes(2, PAGE, 3.0)
    first, expected = float(loss[0][0]), {"color": BLUE, "lw": 0}
    low = float(band(loss, tolerance, np.array([first]))[0][0])
    pale = "before the first milestone"
    left.fill_between([1, first], low, start * (1 + tolerance), **expected, alpha=0.1, label=pale)
    for ax, points in ((left, loss), (right, fid)):
        at = np.geomspace(points[0][0], points[-1][0], 200)
        ax.fill_between(at, *band(points, tolerance, at), **expected, alpha=0.35, label=f"± {tolerance:.0%}")
        ax.plot(*np.array(points).T, "s", ms=3, color=BLUE, label="milestones")
    left.plot(steps, values, lw=1.2, color=ORANGE)
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="squared error of eps", title="L_simple while training")
    marked = {"color": ORANGE, "marker": "o", "ms": 5}
    alike, others = ([s[:2] for s in scores if bool(s[2]) == departs] for departs in (False, True))
    right.plot(*np.reshape(alike, (-1, 2)).T, lw=1.2, **marked, label="this run")
    hollow = "this run, FID by another protocol"
    right.plot(*np.reshape(others, (-1, 2)).T, ls="", mfc="none", **marked, label=hollow)
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="FID", title="FID, 50,000 samples, training set")
    plain_log_ticks(right.xaxis, STEPS)
    plain_log_ticks(right.yaxis, FIDS)
    (x_low, y_low), (x_high, y_high) = (edge(np.array([*fid, *alike, *others]), axis=0) for edge in (np.min, np.max))
    right.set(xlim=(x_low / 1.3, x_high * 1.3), ylim=(y_low * 0.8, y_high * 1.25))
    named = {name: handle for ax in (left, right) for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)
    note = f"departs from the published experiment: {remark}" if remark else ""
    figure.suptitle("\n".join([title, *textwrap.wrap(note, 105)]), fontsize=8)
    return figure
