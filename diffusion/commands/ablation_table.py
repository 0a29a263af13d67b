"""The table of an ablation: mean and spread over seeds beside the papers' values, as Markdown, CSV and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from diffusion.config.ablation_grid import Cell, Grid
from diffusion.published import render_tables
from diffusion.published.render_tables import TextTable

NOISE_SCALE = "noise_scale"
COLUMNS = {
    "bits_per_dim": ("bits/dim", 3),
    "L_T": ("L_T", 5),
    "L_steps": ("sum of L_{t-1}", 3),
    "L_0": ("L_0", 3),
    NOISE_SCALE: ("gradient noise scale", 0),
}
"""Measured quantity -> its title, and its decimal places in Markdown and LaTeX; the CSV file has all."""


class RowResults(NamedTuple):
    """A row of the table."""

    label: str
    values: Mapping[str, Sequence[float]]
    """Quantity -> a value for each finished seed; those that were not measured are absent."""
    done: int
    """Number of seeds that finished."""
    diverged: int
    """Number of seeds that diverged, which no mean includes."""
    paper: Mapping[str, str]
    """Column of the paper -> value as printed."""

    def mean_and_std(self, key: str) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over the seeds; None where undefined."""
        values = self.values.get(key, ())
        return fmean(values) if values else None, stdev(values) if len(values) > 1 else None


class Table(NamedTuple):
    """The results of an ablation."""

    title: str
    caption: str
    rows: Sequence[RowResults]
    scores: Sequence[str] = ()
    """Names of the Fréchet distances."""

    @property
    def columns(self) -> dict[str, tuple[str, int]]:
        """As COLUMNS: the quantities for which some row has a value."""
        every = COLUMNS | {name: (name, 2) for name in self.scores}
        return {key: every[key] for key in every if any(row.values.get(key) for row in self.rows)}

    @property
    def papers(self) -> list[str]:
        """The paper's columns, in the order of their first row."""
        return list(dict.fromkeys(name for row in self.rows for name in row.paper))


def table(grid: Grid, cells: Sequence[Cell]) -> Table:
    """The results of the cells that are finished."""
    results = {cell.index: result for cell in cells if (result := cell.result())}
    rows = []
    for row in grid.rows:
        own = [results[cell.index] for cell in cells if cell.row == row and cell.index in results]
        done = [result["results"] for result in own if not result["diverged"]]
        names = dict.fromkeys(name for one in done for name in one)
        values = {name: [one[name] for one in done if one.get(name) is not None] for name in names}
        rows.append(RowResults(row.label, values, len(done), len(own) - len(done), row.paper))
    scores = dict.fromkeys(result["score"] for result in results.values() if result["score"])
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return Table(grid.title, caption(grid, list(results.values()), seeds), rows, list(scores))


def caption(grid: Grid, results: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """What the spread is, and the protocol: values that differ between results are joined by "or"."""
    protocol: dict[str, dict[str, None]] = {}
    for name, value in (entry for result in results for entry in result["protocol"].items()):
        protocol.setdefault(name, {})[str(value)] = None
    data = {identity for result in results if (identity := result.get("data_identity"))}
    if len(data) > 1:
        protocol["the data changed between rows"] = dict.fromkeys(sorted(data))
    parts = [f"{name}: {' or '.join(values)}" for name, values in protocol.items()]
    spread = f"Mean ± sample standard deviation over seeds {', '.join(map(str, seeds))} (n = {len(seeds)})."
    measured = f"Protocol: {'; '.join(parts)}." if parts else ""
    return " ".join(filter(None, [spread if len(seeds) > 1 else f"Seed {seeds[0]} (n = 1).", measured, grid.note]))


def text_table(results: Table) -> TextTable:
    """The table as text: mean ± sample standard deviation over seeds; the mean alone for one seed."""
    columns, papers = results.columns, results.papers
    rows = []
    for row in results.rows:
        seeds = f"{row.done} ({row.diverged} diverged)" if row.diverged else str(row.done)
        values = []
        for key, (_, digits) in columns.items():
            values.append(" ± ".join(f"{x:.{digits}f}" for x in row.mean_and_std(key) if x is not None))
        rows.append([row.label, seeds, *values, *(row.paper.get(name, "") for name in papers)])
    titles = [*(title for title, _ in columns.values()), *(f"{name} (paper)" for name in papers)]
    return TextTable(results.title, results.caption, ["", "seeds", *titles], rows)


def comma_separated(results: Table) -> str:
    """A CSV file with every digit: mean and sample standard deviation of each quantity, empty where undefined."""
    columns, papers = results.columns, results.papers
    head = ["row", "done", "diverged", *(f"{key}_{kind}" for key in columns for kind in ("mean", "std"))]
    rows = []
    for row in results.rows:
        numbers = [number for key in columns for number in row.mean_and_std(key)]
        rows.append([row.label, row.done, row.diverged, *numbers, *(row.paper.get(name, "") for name in papers)])
    return render_tables.comma_separated([*head, *(f"paper_{name}" for name in papers)], rows)


def write(results: Table, folder: Path) -> list[Path]:
    """Writes table.md, table.csv and table.tex to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = text_table(results)
    contents = {"md": render_tables.markdown(text), "csv": comma_separated(results), "tex": render_tables.latex(text)}
    for suffix, content in contents.items():
        (folder / f"table.{suffix}").write_text(content, encoding="utf-8")
    return [folder / f"table.{suffix}" for suffix in contents]
