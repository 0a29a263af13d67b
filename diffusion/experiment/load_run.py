"""From a run's folder to its experiment and parameters."""

import warnings
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from diffusion.config.config_dict import FOLDER, placeless
from diffusion.data.dataset_identity import Identity, identity
from diffusion.data.dataset_interface import Source
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.training.state import Params
from diffusion.workdir.check_same_data import moved, require_same_data
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import Run


class Data(NamedTuple):
    """The data of a run."""

    train: Source
    held_out: Source
    identity: Identity


def data(run: Run, flags: DataFlags = DataFlags()) -> Data:  # noqa: B008
    """Both splits of a run's data, at the place that the user states or the config's.

    Raises ValueError where they are not those that the run was made with and the user does not accept it.
    """
    train, held_out = build.sources(moved(run, flags).config)
    current = identity(train, held_out)
    lines = require_same_data(run, current, flags.accept)
    if lines and (run.identity or placeless("data.name", run.config.data.name) == FOLDER):
        warnings.warn(lines[0], stacklevel=2)  # sets of another kind have but one content
    return Data(train, held_out, current)


def load(folder: Path, run: Run, step: int | None = None, raw: bool = False) -> tuple[Experiment, Params, int]:
    """The experiment of a run, its parameters (averaged, or raw) and their step: the newest intact one unless told.

    Raises ValueError where the run has no checkpoint, or not that one, or it is damaged.
    """
    ours = build.experiment(run.config, run.shape, run.classes)
    with closing(RunCheckpoints(folder)) as streams:
        state, chosen = streams.load(lambda: ours.fresh().like, step, lambda line: warnings.warn(line, stacklevel=2))
    return ours, state.params if raw else state.ema, chosen
