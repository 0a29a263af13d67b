"""What figures are drawn from: `Inputs` reads a run's config, network and data when a figure first needs them."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffusion.core import respacing
from diffusion.data import toy
from diffusion.runtime import setup
from diffusion.workdir.run import Run, read_run

if TYPE_CHECKING:
    from diffusion.data.source import Source
    from diffusion.figures.arrays.run_sampler import RunSampler


class Request(NamedTuple):
    """The flags of scripts/figures.py and scripts/edit.py that say what is drawn."""

    folder: Path | None = None
    """Folder of the run, or of the ablation."""
    n: int | None = None
    """Rows or images; by default the figure's own number."""
    seed: int = 0
    step: int | None = None
    """Checkpoint; by default the newest."""
    raw: bool = False
    """Whether the raw weights are used instead of their moving average."""
    t: int | None = None
    """Step at which images are mixed."""
    grid: str | None = None
    """Steps of the chain; by default the config's."""


class Inputs:
    """What figures are drawn from, read once."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @property
    def folder(self) -> Path:
        """The run's folder. Raises ValueError without --workdir."""
        if self.request.folder is None:
            raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
        return self.request.folder

    def count(self, default: int) -> int:
        """Number of rows or images."""
        return default if self.request.n is None else self.request.n

    @cached_property
    def run(self) -> Run:
        """The run's config; reading it also sets up the compiler."""
        run = read_run(self.folder)
        setup.configure()
        return run

    @property
    def image_sampler(self) -> "RunSampler":
        """The network of a run of images with its chain.

        Raises ValueError where it cannot be loaded, or the run's data are points.
        """
        run_sampler = self._run_sampler
        if run_sampler.experiment.shape == toy.SHAPE:
            raise ValueError(
                "this figure shows images, and the run's data are points; scripts/figures.py --figure=marginals, "
                "trajectories, score_field, samplers and animation show such"
            )
        return run_sampler

    @property
    def point_sampler(self) -> "RunSampler":
        """The network of a run of points with its chain.

        Raises ValueError where it cannot be loaded, or the run's data are images.
        """
        run_sampler = self._run_sampler
        if run_sampler.experiment.shape != toy.SHAPE:
            raise ValueError(
                "this figure shows points of the plane, and the run's data are images; make a run of points by "
                "scripts/train.py --config=configs/toy2d.py"
            )
        return run_sampler

    @cached_property
    def _run_sampler(self) -> "RunSampler":
        run = self.run

        from diffusion.experiment import load
        from diffusion.figures.arrays.run_sampler import RunSampler

        grid = None if self.request.grid is None else respacing.parse(self.request.grid)
        if grid:
            grid(run.config.diffusion.T)  # raises for an impossible grid before anything is loaded
        experiment, params, _ = load.load(self.folder, run, self.request.step, self.request.raw)
        return RunSampler(experiment, params, self.request.seed, grid, run.config.sample.batch_size)

    def source(self, train: bool) -> "Source":
        """A split of the run's data."""
        run = self.run

        from diffusion.experiment import build

        return build.source(run.config, train)
