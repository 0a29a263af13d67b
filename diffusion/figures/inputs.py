"""What figures are drawn from: `Inputs` reads each thing when a figure first asks for it."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffusion.core import respacing
from diffusion.data import toy
from diffusion.runtime import setup
from diffusion.workdir.run import Run, read_run

if TYPE_CHECKING:
    from diffusion.data.source import Source
    from diffusion.figures.arrays.network import Gallery


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
    def run(self) -> Run:
        """The config of the run, the compiler set up for it."""
        run = read_run(self.folder)
        setup.configure()
        return run

    @property
    def gallery(self) -> "Gallery":
        """The network of a run of images with its chain. Raises ValueError where it cannot be loaded, or is of points.

        Loading is tried once.
        """
        found = self._loaded
        if found.ours.shape == toy.SHAPE:
            raise ValueError(
                "this figure shows images, and the run's data are points; scripts/figures.py --figure=marginals, "
                "trajectories, score_field, samplers and animation show such"
            )
        return found

    @property
    def of_points(self) -> "Gallery":
        """The network of a run of points with its chain. Raises ValueError likewise."""
        found = self._loaded
        if found.ours.shape != toy.SHAPE:
            raise ValueError(
                "this figure shows points of the plane, and the run's data are images; make a run of points by "
                "scripts/train.py --config=configs/toy2d.py"
            )
        return found

    @property
    def _loaded(self) -> "Gallery":
        if isinstance(self._gallery, ValueError):
            raise self._gallery
        return self._gallery

    @cached_property
    def _gallery(self) -> "Gallery | ValueError":
        try:
            run = self.run

            from diffusion.experiment import load
            from diffusion.figures.arrays.network import Gallery

            grid = None if self.request.grid is None else respacing.parse(self.request.grid)
            if grid:
                grid(run.config.diffusion.T)  # refused before anything is loaded
            ours, params, _ = load.load(self.folder, run, self.request.step, self.request.raw)
        except ValueError as error:
            return error
        return Gallery(ours, params, self.request.seed, grid, run.config.sample.batch_size)

    def source(self, train: bool) -> "Source":
        """A split of the run's data."""
        run = self.run

        from diffusion.experiment import build

        return build.source(run.config, train)
