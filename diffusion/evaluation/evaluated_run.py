"""What is evaluated: the weights of a run, the images of a split, and how samples are drawn."""

from pathlib import Path
from typing import NamedTuple

from diffusion.data.source import Source
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


class Split(NamedTuple):
    """The first n images of a split of a data set."""

    name: str
    source: Source
    n: int


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


def split(name: str, source: Source, n: int | None = None) -> Split:
    """The first n images of a split, by default all. Raises ValueError where it has fewer."""
    if n is not None and n > source.size:
        raise ValueError(f"--n={n}: the {name} split of {source.name} has {source.size} images; give at most that many")
    return Split(name, source, source.size if n is None else n)
