"""The commands that would fill the cells which no run of ours has filled, and what they cost."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from diffusion.config.config import flatten
from diffusion.published.cells import Experiment, Measure, Table
from diffusion.published.eligibility import Found, count, departures
from diffusion.published.filling import Comparison
from diffusion.workdir.run import read_run


def commands(tables: Sequence[Table], found: Comparison, known: Sequence[Found], runs: Path, flop_per_s: float) -> str:
    """A shell script: one block for each cell that is not filled, with its cost in comments.

    A run is trained in the first block that needs it, and evaluated in the first that needs that result; other blocks
    refer to these. A run that is there already is evaluated as it is. What no config of ours can measure has no block.
    """
    trained: dict[Experiment, tuple[Path, int]] = {}
    evaluated: set[str] = set()
    blocks = []
    for table in tables:
        for row, column, cell in table.cells():
            if cell.measure and not found.fills((table.name, row.label, column)):
                title = f"# {table.name}: {row.label}, {column}, published {cell.printed}"
                blocks.append("\n".join([title, *_block(cell.measure, trained, evaluated, known, runs, flop_per_s)]))
    return "\n\n".join(blocks) + "\n" if blocks else "# every cell is filled\n"


def _block(
    measure: Measure,
    trained: dict[Experiment, tuple[Path, int]],
    evaluated: set[str],
    known: Sequence[Found],
    runs: Path,
    flop_per_s: float,
) -> list[str]:
    """The lines of a cell's block below its title. `trained` and `evaluated` hold what blocks above did; both grow."""
    experiment, lines = measure.experiment, []
    if experiment in trained:
        lines.append(f"# training: above, in {trained[experiment][0]}")
    elif finished := _finished(experiment, known):
        trained[experiment] = finished
        lines.append(f"# training: done, in {finished[0]}")
    else:
        trained[experiment] = _free(experiment, runs), experiment.values()["train.steps"]
        command = shlex.join(train(experiment, trained[experiment][0]))
        lines += [f"# training: {cost(experiment.train_flop(), flop_per_s)}", command]
    folder, step = trained[experiment]
    command = shlex.join(["python", "scripts/evaluate.py", f"--workdir={folder}", f"--step={step}", *measure.flags])
    if command in evaluated:  # one evaluation gives several cells
        return [*lines, f"# evaluation: above, {command}"]
    evaluated.add(command)
    return [*lines, f"# evaluation: {cost(measure.flop(), flop_per_s)}", command]


def train(experiment: Experiment, folder: Path) -> list[str]:
    """The command that trains a published experiment in a folder."""
    changes = [f"--config.{key}={text}" for key, text in experiment.changes]
    return ["python", "scripts/train.py", f"--config={experiment.config}", *changes, f"--workdir={folder}"]


def cost(flop: float, flop_per_s: float) -> str:
    """Floating-point operations, and the time they take at a sustained throughput."""
    hours = flop / flop_per_s / 3600
    return f"{flop:.1e} FLOP, {hours:,.1f} hours at {flop_per_s / 1e12:g} TFLOP/s"


def _finished(experiment: Experiment, known: Sequence[Found]) -> tuple[Path, int] | None:
    """Folder and step of a run of this experiment whose results show that it is trained; None if there is none."""
    for found in known:
        step = found.result.protocol.get("step")
        if found.config is not None and not departures(experiment, found.config, step):
            return found.folder, count(step)
    return None


def _free(experiment: Experiment, runs: Path) -> Path:
    """The folder to train it in: by its name, or another where a run that is not this experiment has that."""
    folder = runs / experiment.name
    try:
        config = flatten(read_run(folder).config)
    except ValueError:  # there is no run
        return folder
    taken = departures(experiment, config, experiment.resolve().train.steps)
    return folder.with_name(f"{folder.name}_published") if taken else folder
