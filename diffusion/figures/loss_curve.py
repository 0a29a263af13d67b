"""A training run by step: squared error overall and by quartile of t, and the bound on held-out images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffusion.figures.style import BLUE, ORANGE, PAGE, axes, styled

QUARTILES = tuple(f"mse_t_quartile_{i}" for i in (1, 2, 3, 4))


def curve(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one scalar in the lines of a metrics file; lines without a number for it are left out."""
    rows = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array([r[0] for r in rows], int), np.array([r[1] for r in rows], float)


@styled
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
    right.plot(*curve(lines, "eval/bits_per_dim"), "o-", ms=3, color=BLUE, label="estimate while training")
    right.plot(*curve(lines, "test/bits_per_dim"), "s", color=ORANGE, label="exact, at the end")
    right.set(xlabel="step", ylabel="bits/dim", title="bound on held-out images")
    right.legend()
    return figure
