"""Grids by their text: which steps of the process a sampler or a bound visits.

"" or "full"   every step
"50"           50 evenly spaced steps with both ends              Improved DDPM
"10,15,20"     so many in each of as many equal sections          Improved DDPM
"ddim50"       the smallest whole stride that gives 50            DDIM, Improved DDPM
"quad50"       squares of evenly spaced numbers up to 0.8 T       DDIM
"""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from diffusion.core import grids

Grid = Callable[[int], np.ndarray]
"""T -> the steps kept, rising from 0."""


class Form(NamedTuple):
    """One way to write a grid."""

    pattern: str
    build: Callable[[int, list[int]], np.ndarray]
    """(T, the numbers in the text) -> the steps kept, rising from 0."""


GRIDS: dict[str, Form] = {
    "full": Form("(?:full)?", lambda T, counts: grids.full(T)),  # noqa: ARG005
    "10,15,20": Form(r"\d{1,9}(?:,\d{1,9})*", grids.sections),
    "ddim50": Form(r"ddim\d{1,9}", lambda T, counts: grids.strided(T, *counts)),
    "quad50": Form(r"quad\d{1,9}", lambda T, counts: grids.quadratic(T, *counts)),
}
"""An example of each form, and how it is read."""


def parse(text: str) -> Grid:
    """The grid that a text stands for. Raises ValueError for one of no form; the grid does so where T is too small."""
    for form in GRIDS.values():
        if re.fullmatch(form.pattern, text):
            return partial(_build, text, form)
    raise ValueError(f"{text!r} is not a grid of steps; write one such as 50, {', '.join(GRIDS)}")


def _build(text: str, form: Form, T: int) -> np.ndarray:
    ts = form.build(T, [int(number) for number in re.findall(r"\d+", text)])
    if 2 * ts[-1] <= T:
        raise ValueError(
            f"the grid {text!r} ends at step {ts[-1]} of {T}, but sampling starts there from pure noise; use more steps"
        )
    return ts
