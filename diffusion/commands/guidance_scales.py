"""What scripts/guidance_scales.py runs: the effect of guidance on a run's samples, scale by scale."""

from collections.abc import Callable, Sequence
from pathlib import Path

from diffusion.config.validation import SIGNAL_ENDS
from diffusion.evaluation import draw_and_store_sample_sets, guidance_effect, measurement_protocol
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment import build_guidance, load_run
from diffusion.metrics import scores_without_inception
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.workdir import result_files
from diffusion.workdir.run_config import Run


def measure(
    folder: Path,
    run: Run,
    report: Callable[[str], None],
    *,
    scales: Sequence[float],
    classifier: Path | None,
    n: int,
    batch: int,
    seed: int,
    sampler: str | None,
    grid: str | None,
    step: int | None,
    raw: bool,
    data_flags: DataFlags,
) -> Path:
    """Draws and scores samples for each way to guide the run and each scale; returns the path of the result.

    `report` prints one row of the table. None: as the config says, or no classifier. Raises ValueError where the data
    are not small labelled grey images, nothing can guide the run, a classifier would guide a step without signal, or n
    is less than two for each class.
    """
    chain = {"sampler": sampler, "grid": grid, "eta": 0.0 if sampler else None}
    result_files.require(folder)
    usual = run.config.copy_and_resolve_references()
    run.config.sample.update({name: value for name, value in chain.items() if value is not None})
    run = draw_and_store_sample_sets.guided(run, draw_and_store_sample_sets.UNGUIDED)
    if classifier and run.config.diffusion.schedule in SIGNAL_ENDS:
        raise ValueError(
            f"--classifier={classifier}: schedule {run.config.diffusion.schedule!r} ends without signal, where x_0 "
            "moves infinitely with a gradient; leave it out, and label dropout guides, or use a run of another schedule"
        )
    data = load_run.data(run, data_flags)
    if not scores_without_inception.fits(data.train):
        raise ValueError(f"{run.config.data.name}: this measurement is for small labelled grey images")
    if n < (least := 2 * run.classes):
        raise ValueError(f"--n={n}: samples of one class are compared with each other; give at least {least}")
    experiment, params, chosen = load_run.load(folder, run, step, raw)
    learnt = None
    if classifier:
        learnt = build_guidance.load(classifier, run.config, run.shape, run.classes, experiment.process)
    subject = Subject(experiment, params, folder, chosen, raw, data.identity)
    result = guidance_effect.measure(
        subject, learnt, scales, data.train, data.held_out, n=n, batch=batch, seed=seed, report=report
    )
    own = experiment._replace(config=usual)
    return result_files.write(folder, result, *measurement_protocol.departures(own, result.protocol, usual_images=0))
