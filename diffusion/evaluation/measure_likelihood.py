"""A likelihood of a run over a data set, as a result file; an interrupted evaluation resumes after its last batch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.core import respacing
from diffusion.core.array_types import Array, Image, Keys, Labels
from diffusion.core.respacing import Grid
from diffusion.data.dataset_identity import digest
from diffusion.evaluation import measurement_protocol
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment.build import Experiment
from diffusion.metrics import cache_on_disk, mean_and_standard_error
from diffusion.metrics.first_images_of_split import Split
from diffusion.metrics.mean_and_standard_error import Means
from diffusion.training.state import Params
from diffusion.workdir import result_files
from diffusion.workdir.result_files import Result

KEYED = ("config_hash", "step", "weights", "precision", "grid", "clip", "split", "images", "seed")
"""Entries of the protocol that the numbers depend on."""


class Likelihood(NamedTuple):
    """A way to measure -log p(x_0)."""

    name: str
    columns: Callable[[Experiment, Grid], Callable[[Params, Keys, Image, Labels], Array]]
    """(experiment, grid) -> a jitted function of (params, keys, x_0, labels) to numbers of each image, [n, K]."""
    summary: Callable[[Means, int], tuple[dict[str, float], dict[str, list[float]]]]
    """(means of these numbers, dimensions of an image) -> values and series of the result."""
    lines: Callable[[Result], list[str]]
    """The result for a console report."""
    facts: dict[str, Any] = {}  # noqa: RUF012
    """Entries of the protocol that differ from those of the run."""


def measure(
    kind: Likelihood,
    subject: Subject,
    split: Split,
    *,
    grid: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
    resumable: bool = True,
) -> tuple[Result, Path | None]:
    """The likelihood of the images of a split on a grid of steps, by default the config's, and its file of parts.

    Dropout is off, images are not flipped. If `resumable`, partial means are stored in that file, below eval/parts of
    the run, which is to be deleted once the result is written; its key holds everything that the numbers depend on,
    which batch size and devices are not.
    """
    experiment = subject.experiment
    facts = measurement_protocol.of_run(subject) | measurement_protocol.of_chain(experiment, grid) | kind.facts
    facts |= {"split": split.name, "images": split.n, "seed": seed}
    file = None
    if resumable:
        key = {name: facts[name] for name in (*KEYED, *kind.facts)}
        key |= {"parameters": measurement_protocol.digest(subject.params), "data": digest(split.source)}
        file = cache_on_disk.place(subject.folder / result_files.FOLDER / "parts", kind.name, key)
    batch = experiment.batch(min(batch_size or experiment.config.eval.batch_size, split.n))
    columns = partial(
        kind.columns(experiment, respacing.parse(measurement_protocol.grid_of(experiment, grid))), subject.params
    )
    means = mean_and_standard_error.measure(columns, split.source, np.arange(split.n), batch, seed, file, progress)
    values, series = kind.summary(means, int(np.prod(split.source.shape)))
    return Result(kind.name, values, series, facts), file
