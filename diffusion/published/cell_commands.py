"""The commands that fill the cells which no stored result fills."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffusion.published.cells import Experiment, Measure, Table
from diffusion.published.eligible_runs import StoredResult, count, run_differences
from diffusion.published.fill_cells import Comparison


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
    finished = {
        experiment: stored
        for stored in results
        for experiment in _experiments(tables)
        if stored.config and not run_differences(experiment, stored.config, stored.result.protocol.get("step"))
    }
    printed: set[str] = set()
    blocks = []
    for table in tables:
        for row, column, cell in table.cells():
            if cell.measure is None or comparison.fills((table.name, row.label, column)):
                continue
            experiment = cell.measure.experiment
            if stored := finished.get(experiment):
                folder, step = stored.folder, count(stored.result.protocol.get("step"))
                lines = [f"# trained, in {folder}"]
            else:
                folder, step = runs / experiment.name, experiment.values()["train.steps"]
                lines = [train(experiment, folder)]
            lines.append(evaluate(cell.measure, folder, step))
            title = f"# {table.name}: {row.label}, {column}, published {cell.printed}"
            blocks.append("\n".join([title, *(f"# above: {line}" if line in printed else line for line in lines)]))
            printed.update(lines)
    return "\n\n".join(blocks) + "\n" if blocks else "# every cell is filled\n"


def _experiments(tables: Sequence[Table]) -> set[Experiment]:
    return {cell.measure.experiment for table in tables for _, _, cell in table.cells() if cell.measure}
