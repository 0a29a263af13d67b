"""The terms of the bound against t. Improved DDPM figure 2."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion.figures.style import axes, plot_curves, styled


@styled
def terms(curves: Mapping[str, np.ndarray]) -> Any:
    """A Figure of L_{t-1} against t on logarithmic axes, a curve for each label.

    Values: [T] bits/dim, entry t - 1 the term of step t, so that the first is L_0. Terms that are not positive, which
    a logarithm cannot show, are left out. Raises ValueError if there is no curve.
    """
    if not curves:
        raise ValueError("there are no terms of a bound to draw")
    figure, (ax,) = axes()
    shown = {label: np.where(np.asarray(values) > 0, values, np.nan) for label, values in curves.items()}
    plot_curves(ax, {label: (np.arange(1, len(values) + 1), values) for label, values in shown.items()})
    ax.set(xscale="log", yscale="log", xlabel="diffusion step $t$", ylabel=r"$L_{t-1}$ (bits/dim)")
    return figure
