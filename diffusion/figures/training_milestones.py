"""Loss and FID of a run by step, beside those of an independent run of the published recipe."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.loss import curve
from diffusion.figures.style import PAGE, axes, styled

EXPECTED, MEASURED = "#0072b2", "#d55e00"
"""Colours that colour-blind readers can tell apart; in grey the band is lighter than the curve."""

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
    first = float(loss[0][0])
    low = band(loss, tolerance, np.array([first]))[0][0]
    pale = {"color": EXPECTED, "alpha": 0.1, "lw": 0}
    left.fill_between([1, first], low, start * (1 + tolerance), **pale, label="before the first milestone")
    _expected(left, loss, tolerance)
    left.plot(steps, values, lw=1.2, color=MEASURED)
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="squared error of eps", title="L_simple while training")
    _expected(right, fid, tolerance)
    alike = [(step, value) for step, value, departs in scores if not departs]
    others = [(step, value) for step, value, departs in scores if departs]
    marked = {"color": MEASURED, "marker": "o", "ms": 5}
    right.plot(*_columns(alike), lw=1.2, **marked, label="this run")
    right.plot(*_columns(others), ls="", mfc="none", **marked, label="this run, FID by another protocol")
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="FID", title="FID, 50,000 samples, training set")
    shown = np.array([*fid, *alike, *others], float)
    (x_low, y_low), (x_high, y_high) = shown.min(axis=0), shown.max(axis=0)
    right.set_xticks(STEPS, [f"{step // 1000}k" for step in STEPS])
    right.set_yticks(FIDS, [str(value) for value in FIDS])
    right.minorticks_off()
    right.set(xlim=(x_low / 1.3, x_high * 1.3), ylim=(y_low * 0.8, y_high * 1.25))
    named = {name: handle for panel in (left, right) for handle, name in zip(*panel.get_legend_handles_labels())}  # noqa: B905
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)
    note = f"departs from the published experiment: {remark}" if remark else ""
    figure.suptitle("\n".join([title, *textwrap.wrap(note, 105)]), fontsize=8)
    return figure


def _expected(panel: Any, points: Points, tolerance: float) -> None:
    at = np.geomspace(points[0][0], points[-1][0], 200)
    panel.fill_between(at, *band(points, tolerance, at), color=EXPECTED, alpha=0.35, lw=0, label=f"± {tolerance:.0%}")
    panel.plot(*_columns(points), "s", ms=3, color=EXPECTED, label="milestones")


def _columns(points: Points) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
