"""Figures of training by step: the loss of a run, runs side by side, a run beside the published recipe's milestones."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.style import BLUE, ORANGE, PAGE, axes, line, plain_log_ticks
from diffusion.published import expected_loss_and_fid_by_step as published
from diffusion.training.compare_with_recorded_curve import LOSS, Curve, Lines

QUARTILES = tuple(f"mse_t_quartile_{i}" for i in (1, 2, 3, 4))

BOUNDS = (
    ("eval/bits_per_dim", "o-", BLUE, "estimate while training"),
    ("test/bits_per_dim", "s", ORANGE, "exact, at the end"),
)
"""Scalar, marker, colour and label of each bound that a metrics file may hold."""


def curve(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one scalar in the lines of a metrics file; lines without a number for it are left out."""
    rows = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array([r[0] for r in rows], int), np.array([r[1] for r in rows], float)


def loss(lines: Sequence[Mapping[str, Any]], title: str) -> Any:
    """A matplotlib Figure of a metrics file: squared error against step, on logarithmic axes, and bits/dim beside it.

    The squared error is that of the network's output, which for eps is L_simple; its quartiles are those of t, the
    first the least noisy. Raises ValueError if there is nothing to draw.
    """
    steps, values = curve(lines, "train/mse")
    if len(steps) == 0:
        raise ValueError("there is no train/mse in this metrics file: the run has logged nothing yet")
    figure, (left, right) = axes(2, PAGE, 2.4)
    # Lightness falls with t, so that the curves keep their order without colour.
    for i, name in enumerate(QUARTILES):
        left.plot(*curve(lines, f"train/{name}"), lw=0.8, color=str(0.75 - 0.2 * i), label=f"quartile {i + 1} of t")
    left.plot(steps, values, lw=1.6, color=ORANGE, label="all t")
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="squared error", title=title)
    left.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.6)
    for name, marker, color, label in BOUNDS:
        steps, values = curve(lines, name)
        if len(steps):
            right.plot(steps, values, marker, ms=4, color=color, label=label)
    right.set(xlabel="step", ylabel="bits/dim", title="bound on held-out images")
    if right.lines:
        right.legend()
    return figure


def curves(runs: Mapping[str, Lines], band: Curve | None = None) -> Any:
    """A matplotlib Figure with a line for each run, by name: loss, bound, and the Fréchet distance where it is logged.

    runs: the lines of their metrics files. band: the expected loss. Raises ValueError where no run has a loss.
    """
    if not any(len(curve(lines, f"train/{LOSS}")[0]) for lines in runs.values()):
        raise ValueError("there is no train/mse in these metrics files: the runs have logged nothing yet")
    logged = (name for lines in runs.values() for line in lines for name in line)
    distance = next((name for name in logged if name.startswith("test/fd_")), "")
    figure, panels = axes(3 if distance else 2, PAGE, 2.7)
    if band:
        panels[0].fill_between(band.steps, band.low, band.high, color=BLUE, alpha=0.25, lw=0, label="expected")
    for i, (name, lines) in enumerate(runs.items()):
        panels[0].plot(*curve(lines, f"train/{LOSS}"), label=name, **line(i, marked=False))
        for ax, scalar in zip(panels[1:], ("eval/bits_per_dim", distance), strict=False):
            ax.plot(*curve(lines, scalar), **line(i))
    panels[0].set(xscale="log", yscale="log", xlabel="step", ylabel="squared error", title="training")
    panels[1].set(xlabel="step", ylabel="bits/dim", title="bound on held-out images")
    if distance:
        panels[2].set(xlabel="step", yscale="log", ylabel=distance.partition("/")[2], title="samples")
    plain_log_ticks(panels[0].xaxis)
    for ax in panels[::2]:
        plain_log_ticks(ax.yaxis)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def band(points: Sequence[tuple[int, float]], tolerance: float, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge at steps: `points` joined by straight lines in the logarithms, times 1 - and + tolerance.

    points: (step, value). Constant outside of them.
    """
    steps, values = np.log(np.asarray(points, float)).T
    middle = np.exp(np.interp(np.log(at), steps, values))
    return middle * (1 - tolerance), middle * (1 + tolerance)


def milestones(
    lines: Sequence[Mapping[str, Any]], scores: Sequence[tuple[int, float, str]], title: str, remark: str = ""
) -> Any:
    """A matplotlib Figure: L_simple (left) and FID (right) of a run, in the bands expected of DDPM's on CIFAR-10.

    lines: those of a metrics file. scores: (step, FID, how its protocol departs from the milestones'; "" if it does
    not); those that depart are hollow. Raises ValueError where the run has no logged loss and no score.
    """
    steps, values = curve(lines, "train/mse")
    if not len(steps) and not scores:
        raise ValueError("there is no train/mse in this metrics file and no FID among the results: nothing to draw")
    figure, (left, right) = axes(2, PAGE, 3.0)
    tolerance = published.TOLERANCE
    for ax, points in ((left, published.LOSS), (right, published.FID)):
        at = np.geomspace(points[0][0], points[-1][0], 200)
        ax.fill_between(at, *band(points, tolerance, at), color=BLUE, lw=0, alpha=0.35, label=f"± {tolerance:.0%}")
        ax.plot(*np.array(points).T, "s", ms=3, color=BLUE, label="milestones")
    left.plot(steps, values, lw=1.2, color=ORANGE)
    left.set(xscale="log", yscale="log", xlabel="step", ylabel="squared error of eps", title="L_simple while training")
    marked = {"color": ORANGE, "marker": "o", "ms": 5}
    alike, others = ([s[:2] for s in scores if bool(s[2]) == departs] for departs in (False, True))
    right.plot(*np.reshape(alike, (-1, 2)).T, lw=1.2, **marked, label="this run")
    hollow = "this run, FID by another protocol"
    right.plot(*np.reshape(others, (-1, 2)).T, ls="", mfc="none", **marked, label=hollow)
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="FID", title="FID, 50,000 samples, training set")
    plain_log_ticks(right.xaxis)
    plain_log_ticks(right.yaxis)
    named = {name: handle for ax in (left, right) for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)
    note = f"departs from the published experiment: {remark}" if remark else ""
    figure.suptitle("\n".join([title, *textwrap.wrap(note, 105)]), fontsize=8)
    return figure
