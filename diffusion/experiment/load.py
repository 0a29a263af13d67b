"""From a run's folder to its experiment and parameters."""

import warnings
from contextlib import closing
from pathlib import Path

from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.training.state import Params
from diffusion.workdir.run import Run
from diffusion.workdir.run_checkpoints import RunCheckpoints


def load(folder: Path, run: Run, step: int | None = None, raw: bool = False) -> tuple[Experiment, Params, int]:
    """The experiment of a run, its parameters (averaged, or raw) and their step: the newest intact one unless told.

    Raises ValueError where the run has no checkpoint, or not that one, or it is damaged.
    """
    ours = build.experiment(run.config, run.shape, run.classes)
    with closing(RunCheckpoints(folder)) as streams:
        state, chosen = streams.load(lambda: ours.fresh().like, step, lambda line: warnings.warn(line, stacklevel=2))
    return ours, state.params if raw else state.ema, chosen
