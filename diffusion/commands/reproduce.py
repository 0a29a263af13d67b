"""The published tables beside the results of runs, the commands that fill their cells, and the milestones of a run."""

import json
from collections.abc import Sequence
from pathlib import Path

from diffusion.figures.style import save
from diffusion.figures.training_figures import milestones
from diffusion.published import all_tables, commands_for_empty_cells, comparison_table, match_results_to_cells
from diffusion.published import expected_loss_and_fid_by_step as published
from diffusion.published.match_results_to_cells import stored_results
from diffusion.workdir import metrics_jsonl


def tables(names: Sequence[str], runs: Path, form: str) -> tuple[str, list[str]]:
    """The tables of these names in a format of comparison_table.FORMATS, and the results that they do not show.

    Raises ValueError for a name that no table has.
    """
    chosen = all_tables.choose(names)
    comparison = match_results_to_cells.compare(all_tables.tables(), stored_results(runs))
    text = comparison_table.FORMATS[form](chosen, comparison)
    return text, comparison.unused if form == "csv" else []  # a CSV file has no place for them


def commands(names: Sequence[str], runs: Path) -> str:
    """The commands that fill the cells of these tables. Raises ValueError for a name that no table has."""
    chosen, results = all_tables.choose(names), stored_results(runs)
    return commands_for_empty_cells.commands(
        chosen, match_results_to_cells.compare(all_tables.tables(), results), results, runs
    )


def draw_milestones(folder: Path, outs: Sequence[Path]) -> None:
    """Writes the figure of a run's loss and FID beside the milestones to files.

    Raises ValueError where there is no run of CIFAR-10, or nothing to draw.
    """
    differences = published.faults(folder)
    lines = [json.loads(line) for line in metrics_jsonl.read(folder)]
    title = f"{folder.resolve().name}, and an independent run of the published recipe"
    figure = milestones(lines, published.scores(folder), title, remark="; ".join(differences))
    for out in outs:
        save(figure, out)
