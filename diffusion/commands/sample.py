"""What scripts/sample.py runs: images drawn from a run and written as a picture, as PNG files or as an archive."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusion.commands import previews_during_training
from diffusion.evaluation import draw_and_store_sample_sets, sample_batches
from diffusion.evaluation.measurement_protocol import Chain, Subject
from diffusion.experiment import load_run
from diffusion.metrics import read_and_write_sample_sets
from diffusion.runtime.atomic_files import write_npz, written
from diffusion.runtime.paths import check_ending, check_place, writable
from diffusion.runtime.progress_bar import counting
from diffusion.workdir.run_config import Run

SUFFIXES = {"grid": ".png", "png": "", "npz": ".npz"}
"""The forms that images are written in and their endings: one picture, a folder of PNG files, an .npz archive."""


def sample(
    folder: Path,
    run: Run,
    chain: Chain,
    report: Callable[[str], None],
    *,
    n: int,
    batch: int,
    form: str,
    out: Path | None,
    step: int | None,
    raw: bool,
    guidance: dict[str, Any],
) -> Path:
    """Draws n images, or takes those already drawn, writes them in a form of SUFFIXES and returns the path.

    `guidance` are changes of draw_and_store_sample_sets.guided; `report` prints progress. None: as the config says, or
    the usual place. Raises ValueError where the run cannot be sampled in this way, before anything is drawn.
    """
    if out:
        check_ending(out, form, SUFFIXES)
        check_place("out", out)
    elif not writable(folder):
        raise ValueError(f"{folder} cannot be written by this user: give the file or folder to write as --out")
    run = draw_and_store_sample_sets.guided(run, guidance)
    draw_and_store_sample_sets.check(run, chain)
    experiment, params, step = load_run.load(folder, run, step, raw)
    draw_and_store_sample_sets.check_labels(experiment, chain)
    subject = Subject(experiment, params, folder, step, raw)
    with counting("samples", n, "image", report) as progress:
        pixels, broken = draw_and_store_sample_sets.draw(subject, chain, n, batch, progress)
    if broken:
        warnings.warn(f"{broken} of {n} samples hold numbers that are not finite", stacklevel=1)

    name = f"{draw_and_store_sample_sets.stem(subject, chain)}_n_{n}{SUFFIXES[form]}"
    path = out or folder / "samples" / name
    classes = chain.labels or tuple(range(experiment.classes))
    if form == "grid":
        with written(path) as place:
            Image.fromarray(previews_during_training.picture(pixels, len(classes)).squeeze()).save(place, format="PNG")
    elif form == "npz":
        labels = {"arr_1": sample_batches.labels(np.arange(n), classes).astype(np.int64)} if classes else {}
        write_npz(path, {"arr_0": pixels, **labels})  # as the evaluator of guided-diffusion reads it
    else:
        read_and_write_sample_sets.write_folder(path, pixels)
    return path
