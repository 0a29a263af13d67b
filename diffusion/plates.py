"""Every figure by its name: what is drawn, from what. `Inputs` reads each thing when a figure first asks for it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diffusion import recorded, respacing, runtime, schedules, workdir
from diffusion.evaluation import rate_distortion as compression
from diffusion.figures.alpha_bar import alpha_bar
from diffusion.figures.forks import forks
from diffusion.figures.interpolation import interpolation
from diffusion.figures.loss import loss
from diffusion.figures.neighbours import neighbours
from diffusion.figures.panel import panel, square
from diffusion.figures.posterior_variance import posterior_variance
from diffusion.figures.progressive import progressive
from diffusion.figures.rate_distortion import rate_distortion
from diffusion.figures.steps import steps
from diffusion.figures.terms import terms

if TYPE_CHECKING:
    from diffusion.data.source import Source
    from diffusion.gallery import Gallery

COLUMNS = 11
"""Of progressive generation: x_0_hat at ten steps, and the sample."""
ENDS = 3
"""Samples around each x_t."""
NEAREST = 8
FORKS = (1.0, 0.75, 0.5, 0.25)
LAM = tuple(round(i / 10, 1) for i in range(11))
COARSE_TO_FINE = tuple(i / 8 for i in range(8, -1, -1))
LENGTHS = (100, 1000, 4000)
"""T of the processes of which beta_tilde / beta is drawn."""


class Request(NamedTuple):
    """What a user asks for."""

    folder: Path | None = None
    """Of the run, or of the ablation."""
    n: int | None = None
    """Rows or images; by default the figure's own number."""
    seed: int = 0
    step: int | None = None
    raw: bool = False
    t: int | None = None
    """Step at which images are mixed."""
    grid: str | None = None


class Inputs:
    """What figures are drawn from, read once."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @property
    def folder(self) -> Path:
        """The run's folder. Raises ValueError where none is given."""
        if self.request.folder is None:
            raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
        return self.request.folder

    def count(self, usual: int) -> int:
        """How many rows or images."""
        return usual if self.request.n is None else self.request.n

    @cached_property
    def run(self) -> workdir.Run:
        """The config of the run, the compiler set up for it."""
        run = workdir.read_run(self.folder)
        runtime.configure(run.config.compilation_cache)
        return run

    @property
    def gallery(self) -> "Gallery":
        """The network of the run with its chain. Raises ValueError where it cannot be loaded, which is tried once."""
        if isinstance(self._gallery, ValueError):
            raise self._gallery
        return self._gallery

    @cached_property
    def _gallery(self) -> "Gallery | ValueError":
        try:
            run = self.run

            from diffusion import experiment
            from diffusion.gallery import Gallery

            grid = None if self.request.grid is None else respacing.parse(self.request.grid)
            if grid:
                grid(run.config.diffusion.T)  # refused before anything is loaded
            ours, params, _ = experiment.load(self.folder, run, self.request.step, self.request.raw)
        except ValueError as error:
            return error
        return Gallery(ours, params, self.request.seed, grid, run.config.sample.batch_size)

    def source(self, train: bool) -> "Source":
        """A split of the run's data."""
        run = self.run

        from diffusion import build

        return build.source(run.config, train)


def _samples(inputs: Inputs) -> Any:
    return panel(square(inputs.gallery.samples(inputs.count(64))))


def _progressive(inputs: Inputs) -> Any:
    return progressive(*inputs.gallery.progressive(inputs.count(8), COLUMNS))


def _forks(inputs: Inputs) -> Any:
    return forks(*inputs.gallery.forks(inputs.count(4), ENDS, FORKS))


def _pairs(inputs: Inputs, n: int) -> Any:
    gallery = inputs.gallery

    from diffusion.gallery import pairs

    return pairs(inputs.source(train=False), n, inputs.request.seed, same_class=gallery.ours.net.classes > 0)


def _interpolation(inputs: Inputs) -> Any:
    T, t = inputs.run.config.diffusion.T, inputs.request.t
    if t is not None and not 0 <= t <= T:
        raise ValueError(f"--t={t}: a step of this run lies in 0..{T}")
    first, second, labels = _pairs(inputs, inputs.count(6))
    at = 0.5 if t is None else t / T
    (between,), (found,) = inputs.gallery.interpolate((first, second, labels), LAM, [at])
    return interpolation(first, second, between, LAM, [f"t = {found}"])


def _coarse_to_fine(inputs: Inputs) -> Any:
    (first, second, labels), gallery = _pairs(inputs, 1), inputs.gallery
    between, ts = gallery.interpolate((first, second, labels), LAM, COARSE_TO_FINE)
    first, second = (np.broadcast_to(x, (len(ts), *x.shape[1:])) for x in (first, second))
    return interpolation(first, second, between[:, 0], LAM, [f"t = {t}" for t in ts])


def _neighbours(inputs: Inputs) -> Any:
    drawn = inputs.gallery.samples(inputs.count(8))

    from diffusion.gallery import neighbours as nearest

    return neighbours(drawn, nearest(inputs.source(train=True), drawn, NEAREST))


def _rate_distortion(inputs: Inputs) -> Any:
    found = recorded.bounds(inputs.folder, inputs.request.step)[0]
    return rate_distortion(*compression.curve(found.values["L_T"], found.series["terms"], found.series["x_0_rmse"]))


def _terms(inputs: Inputs) -> Any:
    return terms(recorded.terms(recorded.bounds(inputs.folder, inputs.request.step)))


def _loss(inputs: Inputs) -> Any:
    return loss(recorded.metrics(inputs.folder), inputs.folder.resolve().name)


def _steps(inputs: Inputs) -> Any:
    return steps(*recorded.scores(inputs.folder))


def _posterior_variance(inputs: Inputs) -> Any:  # noqa: ARG001
    scaled = {T: schedules.linear(T, 1e-4 * 1000 / T, 0.02 * 1000 / T) for T in LENGTHS}
    return posterior_variance({f"T = {T}": table for T, table in scaled.items()})


def _schedules(inputs: Inputs) -> Any:  # noqa: ARG001
    return alpha_bar({"linear": schedules.linear(1000), "cosine": schedules.cosine(1000)})


class Plate(NamedTuple):
    """A figure."""

    draw: Callable[[Inputs], Any]
    """The inputs -> a matplotlib Figure. Raises ValueError, in one line with what to do, where something is missing."""
    of_run: bool = True
    """Whether it shows a run, and not theory."""


PLATES: dict[str, Plate] = {
    "loss": Plate(_loss),
    "samples": Plate(_samples),
    "progressive": Plate(_progressive),
    "forks": Plate(_forks),
    "interpolation": Plate(_interpolation),
    "coarse_to_fine": Plate(_coarse_to_fine),
    "neighbours": Plate(_neighbours),
    "rate_distortion": Plate(_rate_distortion),
    "terms": Plate(_terms),
    "steps": Plate(_steps),
    "posterior_variance": Plate(_posterior_variance, of_run=False),
    "schedules": Plate(_schedules, of_run=False),
}
"""In the order in which `all` draws them."""
