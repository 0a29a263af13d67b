"""`ForeignWeights`: the contents of a file of another project's weights, whatever its format."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion.convert.name_mapping import Naming, Tensors

AS_IT_IS = {"net.time": "steps", "diffusion.sigma_data": 1.0}
"""Our keys with which a network receives the image and the number of the step as they are, as in all other projects."""


class ForeignWeights(NamedTuple):
    """The tensors of a file, their names, and the settings of the network and the diffusion that it gives."""

    ema: Tensors
    raw: Tensors
    """The same as ema where the file has one set."""
    naming: Naming
    settings: Mapping[str, Any]
    """The config keys that the file determines, but for net.attention."""
    channels: int
    """Channels of the images."""
    step: int | None
    """Optimiser steps of the training; None where neither the file nor its name gives them."""
    unspecified: str
    """The settings that the file does not specify: the config must have them right. Empty if there are none."""
    attended: tuple[int, ...] | None = None
    """Levels with attention, 0 at full size; None if the file does not specify them."""
    size: tuple[int, int] | None = None
    """Height and width of the images; None if the file does not specify them."""
    classes: int = 0
    """Rows of the labels of a conditional network, the null label's included; 0: unconditional."""
    beta: np.ndarray | None = None
    """beta[1..T] where the file lists them instead of naming a schedule."""

    def config(self, height: int) -> dict[str, Any]:
        """The config keys that the file determines for images of this height, and their values."""
        attention = tuple(height >> level for level in self.attended or ())
        return {**self.settings, **({} if self.attended is None else {"net.attention": attention})}


def axis(tensors: Tensors, name: str, number: int, what: str) -> int:
    """The length of an axis of a tensor. Raises ValueError where there is no such tensor: it is another file."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim <= number:
        held = ", ".join(list(tensors)[:3]) or "nothing"
        raise ValueError(f"no tensor {name} of {number + 1} or more axes in it: not {what}; it holds {held}, ...")
    return tensor.shape[number]
