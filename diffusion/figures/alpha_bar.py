"""alpha_bar against t for several schedules. Improved DDPM figure 5."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion.figures.style import axes, plot_curves, styled


@styled
def alpha_bar(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of alpha_bar against t / T, a curve for each label. Values: alpha_bar[0..T]."""
    figure, (ax,) = axes()
    plot_curves(ax, {label: (np.linspace(0, 1, len(values)), values) for label, values in curves.items()})
    ax.set(xlabel=r"$t\,/\,T$", ylabel=r"$\bar\alpha_t$", xlim=(0, 1), ylim=(0, 1.02))
    return figure
