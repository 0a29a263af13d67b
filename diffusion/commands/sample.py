"""What scripts/sample.py runs: images drawn from a run and written as a picture, as PNG files or as an archive."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from diffusion.commands import previews
from diffusion.evaluation import sample_sets
from diffusion.evaluation.protocol import Chain, Subject
from diffusion.experiment import load
from diffusion.metrics import image_set, sample_batches
from diffusion.metrics.progress_bar import counting
from diffusion.runtime.atomic_files import written
from diffusion.runtime.paths import check_ending
from diffusion.workdir.run import Run

SUFFIXES = {"grid": ".png", "png": "", "npz": ".npz"}
"""The forms that images are written in and their endings: one picture, a folder of PNG files, an .npz archive."""


class Request(NamedTuple):
    """Which images to draw, with which weights, and how to write them. None: as the config says, or the usual place."""

    chain: Chain
    n: int
    batch: int
    form: str
    """A name of SUFFIXES."""
    out: Path | None
    step: int | None
    raw: bool
    guidance: float | None
    classifier: str | None
    guidance_from: float | None
    guidance_to: float | None


def sample(folder: Path, run: Run, request: Request, report: Callable[[str], None]) -> Path:
    """Draws the images, or takes those already drawn, writes them and returns the path.

    `report` prints progress. Raises ValueError where the run cannot be sampled in this way, before anything is drawn.
    """
    if request.out:
        check_ending(request.out, request.form, SUFFIXES)
    chain = request.chain
    run = sample_sets.guided(run, request.guidance, request.classifier, request.guidance_from, request.guidance_to)
    sample_sets.check(run, chain)
    experiment, params, step = load.load(folder, run, request.step, request.raw)
    sample_sets.check_labels(experiment, chain)
    subject = Subject(experiment, params, folder, step, request.raw)
    with counting("samples", request.n, "image", report) as progress:
        images = sample_sets.draw(subject, chain, request.n, request.batch, progress)
    if images.broken:
        warnings.warn(f"{images.broken} of {images.n} samples hold numbers that are not finite", stacklevel=1)

    name = f"{sample_sets.stem(subject, chain)}_n_{request.n}{SUFFIXES[request.form]}"
    path = request.out or folder / "samples" / name
    classes = chain.labels or tuple(range(experiment.classes))
    if request.form == "grid":
        with written(path) as place:
            Image.fromarray(previews.picture(images.pixels(), len(classes)).squeeze()).save(place, format="PNG")
    elif request.form == "npz":
        image_set.write_archive(path, images, sample_batches.labels(np.arange(images.n), classes) if classes else None)
    else:
        image_set.write_folder(path, images)
    return path
