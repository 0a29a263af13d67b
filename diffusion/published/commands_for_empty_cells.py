"""The commands that fill the cells which no stored result fills."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffusion.published.differences_from_paper import run_differences
from diffusion.published.match_results_to_cells import Comparison, StoredResult, count
from diffusion.published.table_types import Experiment, Measure, Table


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
