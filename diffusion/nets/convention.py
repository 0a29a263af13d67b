"""What the two published families of U-Nets do differently without any parameter showing it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from diffusion.nets.blocks import Padding
from diffusion.nets.embedding import cosine_first, time_embedding


class Convention(NamedTuple):
    """Three details on which weights depend: with another family's, the same weights give noise, and no error."""

    norm_eps: float
    """Added to the variance in every group norm."""
    embedding: Callable[[Any, int], Any]
    """(t, width) -> the encoding of time."""
    padding: Padding
    """Of the convolutions that halve the size."""


ORIGINAL = Convention(1e-6, time_embedding, ((0, 1), (0, 1)))
"""Ho et al. 2020, in TensorFlow."""

IMPROVED = Convention(1e-5, cosine_first, ((1, 1), (1, 1)))
"""Nichol & Dhariwal 2021, in PyTorch; the defaults of the diffusers library are the same."""
