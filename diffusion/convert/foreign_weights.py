"""`ForeignWeights`: the contents of a file of another project's weights, whatever its format."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.convert.name_mapping import Rule, Shapes, Tensors


class ForeignWeights(NamedTuple):
    """The tensors of a file, their names, and the settings of the network and the diffusion that it gives."""

    ema: Tensors
    raw: Tensors
    """The same as ema where the file has one set."""
    rules: Callable[[Shapes, int], tuple[Rule, ...]]
    """(shapes of our parameters, attention heads) -> the table between the file and us."""
    settings: Callable[[int], dict[str, Any]]
    """(height of the images) -> the config keys that the file determines, and their values."""
    size: tuple[int, int] | None
    """Height and width of the images; None if the file does not specify them."""
    channels: int
    """Channels of the images."""
    classes: int
    """Classes of a conditional network; 0: unconditional."""
    beta: np.ndarray | None
    """beta[1..T] where the file lists them instead of naming a schedule."""
    step: int | None
    """Optimiser steps of the training; None where neither the file nor its name gives them."""
    unspecified: str
    """The settings that the file does not specify: the config must have them right. Empty if there are none."""


def axis(tensors: Tensors, name: str, number: int, what: str) -> int:
    """The length of an axis of a tensor. Raises ValueError where there is no such tensor: it is another file."""
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim <= number:
        held = ", ".join(list(tensors)[:3]) or "nothing"
        raise ValueError(f"no tensor {name} of {number + 1} or more axes in it: not {what}; it holds {held}, ...")
    return tensor.shape[number]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
