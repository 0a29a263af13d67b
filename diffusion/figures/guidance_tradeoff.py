"""The effect of guidance: the share of samples of the requested class, against their diversity."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion.figures.style import PAGE, axes, line, styled


class Curve(NamedTuple):
    """One kind of guidance; entry i of each array belongs to scale[i]."""

    scale: np.ndarray
    accuracy: np.ndarray
    diversity: np.ndarray


@styled
def guidance(curves: Mapping[str, Curve], real: float) -> Any:
    """A Figure of two panels: accuracy against scale, and diversity against accuracy with the scale at each point.

    Accuracy is the share of samples that a classifier assigns to the requested class; `real`, dashed, is that of
    held-out images. Diversity is relative to real images. Raises ValueError where there is no curve.
    """
    if not curves:
        raise ValueError("there is no measurement of guidance to draw: python scripts/guidance.py makes one")
    figure, (left, right) = axes(2, width=PAGE, height=2.7)
    for i, (label, curve) in enumerate(curves.items()):
        left.plot(curve.scale, curve.accuracy, label=label, **line(i).marked())
        right.plot(curve.accuracy, curve.diversity, **line(i).marked())
        for scale, *place in zip(curve.scale, curve.accuracy, curve.diversity, strict=True):
            right.annotate(f"{scale:g}", place, (2, 3), textcoords="offset points", fontsize=5, color=line(i).color)
    dashed = {"color": "0.6", "linewidth": 0.8, "linestyle": (0, (4, 2)), "zorder": 0}
    left.axhline(real, **dashed)
    right.axvline(real, **dashed)
    right.axhline(1.0, **dashed)
    left.set(xlabel="scale of guidance", ylabel="samples of the requested class")
    left.set_xscale("symlog", linthresh=1.0, linscale=0.7)
    ticks = sorted({float(scale) for curve in curves.values() for scale in curve.scale})
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set(xlabel="samples of the requested class", ylabel="diversity within a class (real: 1)")
    left.legend(loc="lower right")
    return figure
