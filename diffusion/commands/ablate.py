"""Runs the cells of an ablation: trains or evaluates each and writes its result file."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from diffusion.commands import previews_during_training, train
from diffusion.commands.ablation_table import NOISE_SCALE
from diffusion.config.ablation_grid import RESULT, Cell, Grid, other_training, read
from diffusion.config.config_dict import config_hash, nested, restore
from diffusion.core import respacing
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation.evaluation_after_training import Summary, measure
from diffusion.evaluation.measurement_protocol import Subject
from diffusion.experiment import build, load_run
from diffusion.experiment.registry_of_samplers_and_schedules import clips
from diffusion.figures.figure_data.curve_data import metrics
from diffusion.figures.image_grid import save_image
from diffusion.figures.training_figures import curve
from diffusion.runtime.atomic_files import write_json
from diffusion.runtime.format_numbers import describe_devices, duration
from diffusion.runtime.signals import Stop
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.training.loop import Diverged
from diffusion.training.periodic_actions import Report
from diffusion.workdir import metrics_jsonl_files
from diffusion.workdir.run_config import read_run, stamp

DIVERGED_BITS = 10_000.0
"""Bits/dim from which a finite bound counts as diverged. Lower bounds may only mean little training: a learned variance
starts at 1, which costs about 3 bits/dim a step."""


Outcome = tuple[str, Summary | None]
"""Why a cell counts as diverged, empty if it does not; and what was measured, None if training diverged."""


def run_cells(
    grid: Grid,
    cells: Sequence[Cell],
    report: Report,
    finished: Callable[[], object] = lambda: None,
    stop: Stop | None = None,
    accept: bool = False,
) -> None:
    """Runs the cells that have no result yet, those that train first, and calls `finished` after each.

    A cell whose numbers are not finite gets the result "diverged", and the other cells run. Raises ValueError where a
    folder belongs to another config and where a cell evaluates a run that is not finished; before anything runs where
    the steps of a cell cannot be built; Stopped, with the state of the cell's run saved, after a signal.
    """
    done = [cell for cell in cells if cell.result()]
    require_levels(grid, [cell for cell in cells if cell not in done])
    for cell in sorted(cells, key=lambda cell: (not cell.trains, cell.index)):
        remark = " (already done)" if cell in done else ""
        report(f"row         {cell.index}: {cell.row.label}, seed {cell.seed}{remark}")
        if cell in done:
            continue
        start = time.monotonic()
        try:
            wrong, summary = (
                train_cell(cell, report, stop, accept) if cell.trains else evaluate_cell(cell, report, accept)
            )
        except ValueError as error:
            if (flag := "another --workdir") not in str(error):  # that of the scripts of one run
                raise
            raise ValueError(str(error).replace(flag, "another --out")) from error
        result = record(grid, cell, wrong, summary, time.monotonic() - start)
        write_json(cell.folder / RESULT, result)
        report(f"DIVERGED    {wrong}" if wrong else f"done        in {duration(result['seconds'])}")
        finished()
        jax.clear_caches()  # each cell compiles its own programs, which would add up in memory


def require_levels(grid: Grid, cells: Sequence[Cell]) -> None:
    """Raises ValueError, naming grid and row, for a cell whose process or steps of sampling cannot be built."""
    for cell in cells:
        try:
            with warnings.catch_warnings(action="ignore"):  # they are for the row's turn
                build.levels(cell.config, respacing.parse(cell.config.sample.grid))
        except ValueError as error:
            raise ValueError(f"{grid.name}, row {cell.row.label!r}: {error}") from error


def train_cell(cell: Cell, report: Report, stop: Stop | None = None, accept: bool = False) -> Outcome:
    """Trains the cell's run, or resumes it, and evaluates it."""
    try:
        summary = train.run(cell.config, cell.folder, report, stop, accept=accept)
    except Diverged as error:
        return str(error), None
    return fault(summary), summary


def evaluate_cell(cell: Cell, report: Report, accept: bool = False) -> Outcome:
    """Evaluates the trained network of another row. Raises ValueError if it is not trained, or with another config."""
    config = cell.config
    trained = read(cell.trained)
    if trained is None:
        raise ValueError(
            f"row {cell.index} ({cell.row.label!r}) evaluates the run in {cell.trained}, which is not finished; "
            f"run the row {cell.row.run!r} with the same seed first"
        )
    for key, value, wanted in other_training(restore(trained["config"]), config):
        raise ValueError(
            f"row {cell.index} ({cell.row.label!r}) evaluates the run in {cell.trained}, which was trained with "
            f"{key} = {value!r}, not {wanted!r}; give another --out, or delete that folder"
        )
    if trained["diverged"]:
        return f"the run that it evaluates, that of row {cell.row.run!r}, has diverged", None
    run = read_run(cell.trained)
    experiment, params, step = load_run.load(cell.trained, run._replace(config=config), config.train.steps)
    data = load_run.data(run._replace(config=config), DataFlags(accept))
    subject = Subject(experiment, params, cell.folder, step, raw=False, data=data.identity)
    summary = measure(subject, data.train, data.held_out, train.afford(experiment))
    for line in summary.lines():
        report(line)
    if len(summary.samples):  # none where the budget allows none
        cell.folder.mkdir(parents=True, exist_ok=True)
        path = cell.folder / f"step_{step:07d}_{config.sample.sampler}.png"
        save_image(previews_during_training.picture(summary.samples), path)
        report(f"samples     {path}")
    return fault(summary), summary


def noise_scale(folder: Path) -> dict[str, float]:
    """The gradient noise scale at the end of a run, in examples; empty where it was not measured."""
    _, values = curve(metrics(folder) if metrics_jsonl_files.exist(folder) else [], f"eval/{NOISE_SCALE}")
    return {NOISE_SCALE: float(values[-1])} if len(values) else {}


def fault(summary: Summary) -> str:
    """Why a network counts as diverged; empty if it does not."""
    if summary.broken:
        return f"{summary.broken} of {len(summary.samples)} samples are not finite"
    total = summary.bound.values["bits_per_dim"] if summary.bound else 0.0
    return "" if math.isfinite(total) and total < DIVERGED_BITS else f"the bound is {total:.3g} bits/dim"


def record(grid: Grid, cell: Cell, wrong: str, summary: Summary | None, seconds: float) -> dict[str, Any]:
    """The content of a cell's result file; numbers that are not finite are null."""
    config, numbers = cell.config, summary.report() | noise_scale(cell.folder) if summary else {}
    return {
        "grid": grid.name,
        "row": cell.row.label,
        "seed": cell.seed,
        "diverged": bool(wrong),
        "fault": wrong,
        "results": {name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "score": summary.distance.name if summary and summary.distance else None,
        "steps": config.train.steps,
        "seconds": round(seconds, 1),
        "protocol": protocol(config, summary),
        "data_identity": data_identity(cell.trained),
        "config": nested(config),
        "config_hash": config_hash(config),
        **stamp(describe_devices(list(make_mesh().devices.flat))),
    }


def data_identity(folder: Path) -> str | None:
    """The identity of the data of the run in a folder; None where the folder states none."""
    try:
        identity = read_run(folder).identity
    except ValueError:  # training diverged before its first checkpoint
        return None
    return identity and str(identity)


def protocol(config: ConfigDict, summary: Summary | None) -> dict[str, Any]:
    """What a number must be quoted with."""
    facts = {
        "data": config.data.name,
        "training steps": config.train.steps,
        "images per step": config.train.batch_size,
        "T": config.diffusion.T,
        "weights": "moving average",
        "x_0_hat clipped": "yes" if clips(config) else "no",
    }
    if summary:
        facts["samples"] = len(summary.samples)
    if summary and summary.bound:
        facts["held-out images for the bound"] = summary.bound.protocol["images"]
    if summary and summary.distance:
        name, values = summary.distance.name, summary.distance.values
        floor = f"{values[f'{name}_floor_images']} real held-out images have {values[f'{name}_floor']:.2f}"
        facts[name] = (
            f"Fréchet distance of the samples from {values[f'{name}_reference']} training images in the features of a "
            f"classifier of this data, not an FID{f'; {floor}' if math.isfinite(values[f'{name}_floor']) else ''}"
        )
    return facts
