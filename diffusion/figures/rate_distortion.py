"""Progressive lossy compression: distortion and rate along the reverse process. DDPM figure 5."""

from typing import Any

import numpy as np

from diffusion.figures.style import PAGE, axes, line, styled


@styled
def rate_distortion(rate: np.ndarray, rmse: np.ndarray) -> Any:
    """A Figure of three panels: distortion and rate against reverse steps done, and distortion against rate.

    rate, rmse: [T], entry t - 1 what is known at step t: bits/dim received so far, and the root mean squared error of
    x_0_hat in levels 0..255. The abscissa is T - t. Raises ValueError where they are not of one length.
    """
    rate, rmse = np.asarray(rate, float), np.asarray(rmse, float)
    if rate.ndim != 1 or rate.shape != rmse.shape:
        raise ValueError(f"rate and distortion need one entry a step each; got shapes {rate.shape} and {rmse.shape}")
    done = np.arange(len(rate))[::-1]
    steps, received, distortion = r"reverse steps $T - t$", "rate (bits/dim)", "distortion (RMSE, 0–255)"
    panels = ((done, rmse, steps, distortion), (done, rate, steps, received), (rate, rmse, received, distortion))
    figure, shown = axes(3, PAGE, 2.0)
    for ax, (x, y, xlabel, ylabel) in zip(shown, panels, strict=True):
        ax.plot(x, y, **line(0).plain())
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    return figure
