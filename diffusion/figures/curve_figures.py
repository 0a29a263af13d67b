"""Figures of curves: schedules, terms of the bound, rate and distortion, scores by steps, guidance, cost, speed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.style import COLUMN, ORANGE, PAGE, axes, line, plain_log_ticks, plot_curves
from diffusion.planning.memory_and_time import SHARE
from diffusion.planning.report_csv import Record

PUBLISHED = 21.0
"""Training steps per second of the paper's CIFAR-10 run on a TPU v3-8. Ho et al. 2020, appendix B."""


def alpha_bar(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of alpha_bar against t / T, a curve for each label. Improved DDPM figure 5.

    Values: alpha_bar[0..T].
    """
    figure, (ax,) = axes()
    plot_curves(ax, {label: (np.linspace(0, 1, len(values)), values) for label, values in curves.items()})
    ax.set(xlabel=r"$t\,/\,T$", ylabel=r"$\bar\alpha_t$", xlim=(0, 1), ylim=(0, 1.02))
    return figure


def ratio(alpha_bar: np.ndarray) -> np.ndarray:
    """beta_tilde[t] / beta[t] = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) for t = 1..T; 0 at t = 1. DDPM eq. 7."""
    alpha_bar = np.asarray(alpha_bar, np.float64)
    return (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])


def posterior_variance(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of beta_tilde / beta against t / T, a curve for each label. Improved DDPM figure 1.

    Values: alpha_bar[0..T].
    """
    figure, (ax,) = axes()
    steps = {label: np.arange(1, len(alpha_bar)) / (len(alpha_bar) - 1) for label, alpha_bar in curves.items()}
    plot_curves(ax, {label: (steps[label], ratio(alpha_bar)) for label, alpha_bar in curves.items()})
    ax.set(xscale="log", xlabel=r"$t\,/\,T$", ylabel=r"$\tilde\beta_t\,/\,\beta_t$", ylim=(0, 1.02))
    return figure


def terms(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of L_{t-1} against t on logarithmic axes, a curve for each label.

    Values: [T] bits/dim, entry t - 1 the term of step t, so that the first is L_0. Terms that are not positive, which
    a logarithm cannot show, are left out. Improved DDPM figure 2.
    """
    figure, (ax,) = axes()
    shown = {label: np.where(np.asarray(values) > 0, values, np.nan) for label, values in curves.items()}
    plot_curves(ax, {label: (np.arange(1, len(values) + 1), values) for label, values in shown.items()})
    ax.set(xscale="log", yscale="log", xlabel="diffusion step $t$", ylabel=r"$L_{t-1}$ (bits/dim)")
    return figure


def rate_distortion(rate: np.ndarray, rmse: np.ndarray) -> Any:
    """A Figure of three panels: distortion and rate against reverse steps done, and distortion against rate.

    rate, rmse: [T], entry t - 1 what is known at step t: bits/dim received so far, and the root mean squared error of
    x_0_hat in levels 0..255. The abscissa is T - t. DDPM figure 5.
    """
    done = np.arange(len(rate))[::-1]
    steps, received, distortion = r"reverse steps $T - t$", "rate (bits/dim)", "distortion (RMSE, 0–255)"
    panels = ((done, rmse, steps, distortion), (done, rate, steps, received), (rate, rmse, received, distortion))
    figure, shown = axes(3, PAGE, 2.0)
    for ax, (x, y, xlabel, ylabel) in zip(shown, panels, strict=True):
        ax.plot(x, y, **line(0, marked=False))
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    return figure


def steps(curves: Mapping[str, Mapping[int, Sequence[float]]], score: str) -> Any:
    """A Figure of a score against sampling steps on logarithmic axes, a curve for each sampler.

    curves: label -> steps -> the score of each seed. The mean is drawn, with bars of one sample standard deviation
    where there are several. Improved DDPM figure 8; DDIM table 1.
    """
    figure, (ax,) = axes(width=0.75 * PAGE, height=2.8)
    for i, (label, points) in enumerate(curves.items()):
        x = sorted(points)
        mean = np.array([np.mean(points[n]) for n in x])
        spread = np.array([np.std(points[n], ddof=1) if len(points[n]) > 1 else 0.0 for n in x])
        bars = spread if spread.any() else None
        ax.errorbar(x, mean, yerr=bars, capsize=2, elinewidth=0.8, label=label, **line(i))
    ax.set(xscale="log", yscale="log", xlabel="sampling steps", ylabel=score)
    plain_log_ticks(ax.xaxis, sorted({n for points in curves.values() for n in points}))
    plain_log_ticks(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def guidance(curves: Mapping[str, Sequence[np.ndarray]], real: float) -> Any:
    """A Figure of two panels: accuracy against scale, and diversity against accuracy with the scale at each point.

    curves: label -> scales, accuracy and diversity at each. Accuracy is the share of samples that a classifier assigns
    to the requested class; `real`, dashed, is that of held-out images. Diversity is relative to real images.
    """
    figure, (left, right) = axes(2, width=PAGE, height=2.7)
    for i, (label, (scales, accuracy, diversity)) in enumerate(curves.items()):
        style = line(i)
        left.plot(scales, accuracy, label=label, **style)
        right.plot(accuracy, diversity, **style)
        for scale, *place in zip(scales, accuracy, diversity, strict=True):
            right.annotate(f"{scale:g}", place, (2, 3), textcoords="offset points", fontsize=5, color=style["color"])
    dashed = {"color": "0.6", "linewidth": 0.8, "linestyle": (0, (4, 2)), "zorder": 0}
    left.axhline(real, **dashed)
    right.axvline(real, **dashed)
    right.axhline(1.0, **dashed)
    left.set(xlabel="scale of guidance", ylabel="samples of the requested class")
    left.set_xscale("symlog", linthresh=1.0, linscale=0.7)
    ticks = sorted({float(scale) for scales, *_ in curves.values() for scale in scales})
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set(xlabel="samples of the requested class", ylabel="diversity within a class (real: 1)")
    left.legend(loc="lower right")
    return figure


def cost_growth(curves: Mapping[str, tuple[str, Sequence[int], Sequence[float]]]) -> Any:
    """A Figure with a panel for each quantity, on logarithmic axes; the second line is linear growth from the first.

    curves: quantity -> what the seconds are of, values of the quantity, seconds.
    """
    rows = -(-len(curves) // 3)
    figure, panels = axes(min(3, len(curves)), PAGE, 2.0 * rows, rows)
    for ax, (name, (cost, x, seconds)) in zip(panels, curves.items(), strict=False):
        ax.plot(x, seconds, **line(0), label="measured")
        ax.plot(x, [seconds[0] * value / x[0] for value in x], **line(1, marked=False), label="linear")
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel=f"seconds of {cost}")
        plain_log_ticks(ax.xaxis, x)
        plain_log_ticks(ax.yaxis)
    for ax in panels[len(curves) :]:
        ax.set_visible(False)
    panels[0].legend()
    return figure


def rates(programs: Sequence[Record]) -> Mapping[str, list[float]]:
    """Steps per second of each program at the peaks, with and without overlap of kernels and collectives, and without
    at SHARE of the arithmetic peak."""
    return {
        "roofline": [1 / max(p.arithmetic, p.traffic, p.links) for p in programs],
        "no overlap": [1 / (max(p.arithmetic, p.traffic) + p.links) for p in programs],
        f"no overlap, {SHARE:.0%} of peak": [1 / (max(p.arithmetic / SHARE, p.traffic) + p.links) for p in programs],
    }


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
        ax.plot(chips, values, **line(i), label=label)
    expected = [value for (value,) in rates([check]).values()]
    ends = [min(expected), max(expected)]
    ax.plot([check.chips] * 2, ends, color=ORANGE, lw=3, alpha=0.5, label="TPU v3-8, compiled")
    ax.plot([check.chips], [published], "*", ms=8, color=ORANGE, label="TPU v3-8, published")
    ax.set(xscale="log", yscale="log", xlabel=f"chips ({programs[0].model})", ylabel="steps/s")
    plain_log_ticks(ax.xaxis, chips)
    plain_log_ticks(ax.yaxis)
    figure.legend(loc="outside right upper")
    return figure
