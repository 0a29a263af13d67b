"""Differences between the two published families of U-Nets that no parameter shows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from diffusion.nets.blocks import Padding
from diffusion.nets.embedding import cosine_first, time_embedding


class Convention(NamedTuple):
    """Three details that belong to the weights: under the other convention weights give noise, and no error."""

    norm_eps: float
    """Added to the variance in every group norm."""
    embedding: Callable[[Any, int], Any]
    """(t, width) -> the encoding of time."""
    padding: Padding
    """Padding of the convolutions that halve the size."""


ORIGINAL = Convention(1e-6, time_embedding, ((0, 1), (0, 1)))
"""Ho et al. 2020, in TensorFlow."""

IMPROVED = Convention(1e-5, cosine_first, ((1, 1), (1, 1)))
"""Nichol & Dhariwal 2021, in PyTorch; the defaults of the diffusers library are the same."""
