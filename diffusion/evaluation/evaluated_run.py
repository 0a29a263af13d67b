"""What is evaluated: the weights of a run, and how samples are drawn."""

from pathlib import Path
from typing import NamedTuple

from diffusion.data.dataset_identity import Identity
from diffusion.experiment.build import Experiment
from diffusion.training.state import Params


class Subject(NamedTuple):
    """A set of weights of a run."""

    experiment: Experiment
    params: Params
    folder: Path
    """Of the run; results are written below it."""
    step: int
    raw: bool
    """Whether `params` are the raw weights instead of their moving average."""
    data: Identity | None = None
    """Of the data that it is measured on; None where it is measured on none."""


class Chain(NamedTuple):
    """How images are drawn; None is the config's value."""

    sampler: str | None = None
    grid: str | None = None
    eta: float | None = None
    seed: int = 0
    truncate: bool = False
    """Whether levels are cut instead of rounded."""
    labels: tuple[int, ...] = ()
    """Labels of the images, in turn; empty: all classes."""
