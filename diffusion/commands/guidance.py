"""What scripts/guidance.py runs: the effect of guidance on a run's samples, scale by scale."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion.evaluation import guidance_effect, sample_sets
from diffusion.evaluation.protocol import Subject
from diffusion.experiment import guidance, load
from diffusion.metrics import small_image_scores
from diffusion.runtime.run_flags import DataFlags
from diffusion.workdir import results
from diffusion.workdir.run import Run


class Request(NamedTuple):
    """What to measure, with which weights. None: as the config says, or no classifier."""

    scales: Sequence[float]
    classifier: Path | None
    n: int
    batch: int
    seed: int
    sampler: str | None
    grid: str | None
    step: int | None
    raw: bool
    data: DataFlags = DataFlags()


def measure(folder: Path, run: Run, request: Request, report: Callable[[str], None]) -> Path:
    """Draws and scores samples for each way to guide the run and each scale; returns the path of the result.

    `report` prints one row of the table. Raises ValueError where the data are not small labelled grey images, or
    nothing can guide the run.
    """
    chain = {"sampler": request.sampler, "grid": request.grid, "eta": 0.0 if request.sampler else None}
    run.config.sample.update({name: value for name, value in chain.items() if value is not None})
    run = sample_sets.guided(run, scale=0.0, classifier="", first=0.0, last=1.0)
    data = load.data(run, request.data)
    if not small_image_scores.fits(data.train):
        raise ValueError(f"{run.config.data.name}: this measurement is for small labelled grey images")
    experiment, params, step = load.load(folder, run, request.step, request.raw)
    learnt = None
    if request.classifier:
        learnt = guidance.load(request.classifier, run.config, run.shape, run.classes, experiment.process)
    subject = Subject(experiment, params, folder, step, request.raw, data.identity)
    ways = guidance_effect.guides(experiment, learnt)
    report(f"{'guidance':26} {'scale':>5}  {'accuracy':>8}  {'diversity':>9}  {'distance':>9}")
    options = {"n": request.n, "batch": request.batch, "seed": request.seed, "report": report}
    result = guidance_effect.measure(subject, ways, request.scales, (data.train, data.held_out), **options)
    report(f"a classifier of clean images is right on {result.values['held_out_accuracy']:.1%} of held-out real images")
    return results.write(folder, result, *(["raw"] if request.raw else []))
