"""The ratio of the two bounds of the reverse variance, beta_tilde / beta. Improved DDPM figure 1."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion.figures.style import axes, plot_curves, styled


def ratio(alpha_bar: np.ndarray) -> np.ndarray:
    """beta_tilde[t] / beta[t] = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) for t = 1..T; 0 at t = 1. DDPM eq. 7."""
    alpha_bar = np.asarray(alpha_bar, np.float64)
    return (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])


@styled
def posterior_variance(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of beta_tilde / beta against t / T, a curve for each label. Values: alpha_bar[0..T]."""
    figure, (ax,) = axes()
    steps = {label: np.arange(1, len(alpha_bar)) / (len(alpha_bar) - 1) for label, alpha_bar in curves.items()}
    plot_curves(ax, {label: (steps[label], ratio(alpha_bar)) for label, alpha_bar in curves.items()})
    ax.set(xscale="log", xlabel=r"$t\,/\,T$", ylabel=r"$\tilde\beta_t\,/\,\beta_t$", ylim=(0, 1.02))
    return figure
