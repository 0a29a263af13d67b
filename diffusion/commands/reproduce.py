"""The published tables beside the results of runs, the commands that fill their cells, and the milestones of a run."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffusion.config.misspelt_names import suggestion
from diffusion.figures.style import SUFFIXES, save
from diffusion.figures.training_figures import milestones
from diffusion.published import comparison_table, ddim_tables, ddpm_tables, improved_ddpm_tables
from diffusion.published import expected_loss_and_fid_by_step as published
from diffusion.published.differences_of_config_from_paper import run_differences
from diffusion.published.match_results_to_cells import Comparison, StoredResult, compare, count, stored_results
from diffusion.published.table_types import Experiment, Measure, Table
from diffusion.workdir import metrics_jsonl_files


def tables() -> tuple[Table, ...]:
    """Every table, in the order in which they are printed."""
    return (
        ddpm_tables.table_1(),
        ddpm_tables.table_2(),
        ddpm_tables.table_3(),
        ddpm_tables.table_4(),
        ddpm_tables.split(),
        improved_ddpm_tables.cifar10(),
        improved_ddpm_tables.imagenet64(),
        ddim_tables.cifar10(),
        ddim_tables.celeba64(),
    )


def text(names: Sequence[str], runs: Path, form: str) -> tuple[str, list[str]]:
    """The tables of these names, all of them for none, and the results that they do not show.

    `form` is one of comparison_table.FORMATS, or "commands" for those that fill the cells. Raises ValueError for a name
    that no table has.
    """
    known, results = {table.name: table for table in tables()}, stored_results(runs)
    for name in names:
        if name not in known:
            raise ValueError(f"--table={name}: no such table; {suggestion(name, known)}")
    chosen, comparison = [known[name] for name in names or known], compare([*known.values()], results)
    if form == "commands":
        return commands(chosen, comparison, results, runs), []
    # A CSV file has no place for what is not shown.
    return comparison_table.FORMATS[form](chosen, comparison), comparison.unused if form == "csv" else []


def train(experiment: Experiment, folder: Path) -> str:
    """The command that trains a published experiment in a folder."""
    changes = [f"--config.{key}={value}" for key, value in experiment.changes]
    return shlex.join(["python", "scripts/train.py", f"--config={experiment.config}", *changes, f"--workdir={folder}"])


def evaluate(measure: Measure, folder: Path, step: int) -> str:
    """The command that measures a cell on the run in a folder."""
    return shlex.join(["python", "scripts/evaluate.py", f"--workdir={folder}", f"--step={step}", *measure.flags])


def commands(tables: Sequence[Table], comparison: Comparison, results: Iterable[StoredResult], runs: Path) -> str:
    """A shell script with a block for each measurable cell that is not filled.

    A command that stands in a block above is not repeated, and a finished run is not trained again.
    """
    cells = [((table.name, row.label, column), cell) for table in tables for row, column, cell in table.cells()]
    experiments = {cell.measure.experiment for _, cell in cells if cell.measure}
    finished = {
        experiment: stored
        for stored in results
        for experiment in experiments
        if stored.config and not run_differences(experiment, stored.config, stored.step)
    }
    printed: set[str] = set()
    blocks = []
    for place, cell in cells:
        if cell.measure is None or comparison.fills(place):
            continue
        experiment = cell.measure.experiment
        if stored := finished.get(experiment):
            folder, step, first = stored.folder, count(stored.step), f"# trained, in {stored.folder}"
        else:
            folder, step = runs / experiment.name, experiment.values()["train.steps"]
            first = train(experiment, folder)
        lines = [first, evaluate(cell.measure, folder, step)]
        title = "# {}: {}, {}, published {}".format(*place, cell.printed)
        blocks.append("\n".join([title, *(f"# above: {line}" if line in printed else line for line in lines)]))
        printed.update(lines)
    return "\n\n".join(blocks) + "\n" if blocks else "# every cell is filled\n"


def draw_milestones(folder: Path, outs: Sequence[Path]) -> None:
    """Writes the figure of a run's loss and FID beside the milestones to files.

    Raises ValueError where there is no run of CIFAR-10, nothing to draw, or a file is of a kind that holds no figure.
    """
    for out in outs:
        if out.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--out={out}: the figure is written as {', '.join(SUFFIXES)}; name such a file")
    differences = published.faults(folder)
    lines = metrics_jsonl_files.scalars(folder)
    title = f"{folder.resolve().name}, and an independent run of the published recipe"
    figure = milestones(lines, published.scores(folder), title, remark="; ".join(differences))
    for out in outs:
        save(figure, out)
