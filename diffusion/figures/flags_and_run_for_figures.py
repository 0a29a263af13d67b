"""What figures are drawn from: flags, and a run's config, network and data, each read when a figure first needs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from diffusion.core import respacing
from diffusion.data import toy_points
from diffusion.experiment import load_run
from diffusion.experiment.load_run import Data
from diffusion.figures.figure_data.samples_from_run import RunSampler
from diffusion.runtime.command_line import required
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.workdir.run_config import Run, read_run


@dataclass
class Inputs:
    """The flags that scripts/figures.py and scripts/edit.py share, and what they name."""

    workdir: Path | None = None
    """Folder of the run, or of the ablation."""
    n: int | None = None
    """Rows or images; by default the figure's own number."""
    seed: int = 0
    step: int | None = None
    """Checkpoint; by default the newest."""
    raw: bool = False
    """Whether the raw weights are used instead of their moving average."""
    t: Sequence[int] = ()
    """Steps to which noise is added, 1..T."""
    grid: str | None = None
    """Steps of the chain; by default the config's."""
    data_flags: DataFlags = field(default_factory=DataFlags)

    @property
    def folder(self) -> Path:
        """The run's folder. Raises ValueError without --workdir."""
        return required(self.workdir)

    @cached_property
    def run(self) -> Run:
        """The run's config."""
        return read_run(self.folder)

    @property
    def fractions(self) -> list[float]:
        """The steps `t` as fractions of T, by default a half. Raises ValueError for one outside 1..T."""
        T = self.run.config.diffusion.T
        for t in self.t:
            if not 1 <= t <= T:
                raise ValueError(f"--t={t}: a step of this run lies in 1..{T}")
        return [t / T for t in self.t] or [0.5]

    def sampler(self, points: bool = False) -> RunSampler:
        """The network of a run of images, or of points, with its chain. Raises ValueError for a run of the other."""
        kinds = ("images", "points of the plane")
        of_points = self._run_sampler.experiment.shape == toy_points.SHAPE
        if of_points != points:
            shown, others = kinds[points], kinds[of_points]
            raise ValueError(f"this figure shows {shown}, and the run's data are {others}; --help lists the figures")
        return self._run_sampler

    @cached_property
    def _run_sampler(self) -> RunSampler:
        grid = None if self.grid is None else respacing.parse(self.grid)
        experiment, params, _ = load_run.load(self.folder, self.run, self.step, self.raw)
        return RunSampler(experiment, params, self.seed, grid, self.run.config.sample.batch_size)

    @cached_property
    def data(self) -> Data:
        """The run's data. Raises ValueError where they are not those that the run was made with."""
        return load_run.data(self.run, self.data_flags)
