"""Runs side by side by step: loss in the band of the recorded curve, the held-out bound, a Fréchet distance."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusion.figures.loss_curve import curve
from diffusion.figures.style import BLUE, PAGE, axes, line, plain_log_ticks, styled
from diffusion.training.expected_loss import LOSS, Curve, Lines


@styled
def curves(
    runs: Mapping[str, Lines],
    distances: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    distance: str = "",
    band: Curve | None = None,
) -> Any:
    """A matplotlib Figure with a line for each run, by name, in up to three panels.

    distances: (step, `distance` of samples drawn there) of the runs that were measured, its panel left out where none
    was. band: the expected loss. Raises ValueError where no run has a loss.
    """
    if not any(len(curve(lines, f"train/{LOSS}")[0]) for lines in runs.values()):
        raise ValueError("there is no train/mse in these metrics files: the runs have logged nothing yet")
    distances = distances or {}
    figure, panels = axes(3 if distances else 2, PAGE, 2.7)
    if band:
        panels[0].fill_between(band.steps, band.low, band.high, color=BLUE, alpha=0.25, lw=0, label="expected")
    for i, (name, lines) in enumerate(runs.items()):
        panels[0].plot(*curve(lines, f"train/{LOSS}"), label=name, **line(i).plain())
        panels[1].plot(*curve(lines, "eval/bits_per_dim"), **line(i).marked())
        if distances:
            measured = sorted(distances.get(name, ()))
            panels[2].plot([step for step, _ in measured], [value for _, value in measured], **line(i).marked())
    panels[0].set(xscale="log", yscale="log", xlabel="step", ylabel="squared error", title="training")
    panels[1].set(xlabel="step", ylabel="bits/dim", title="bound on held-out images")
    if distances:
        panels[2].set(xlabel="step", yscale="log", ylabel=distance, title="samples")
    plain_log_ticks(panels[0].xaxis)
    for ax in panels[::2]:
        plain_log_ticks(ax.yaxis)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
