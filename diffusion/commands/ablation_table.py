"""The table of an ablation: mean and spread over seeds beside the papers' values, as Markdown, CSV and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.config.ablation import Cell, Grid
from diffusion.published import text_tables
from diffusion.published.text_tables import TextTable


class Column(NamedTuple):
    """A measured quantity."""

    key: str
    """Its name in results and in the CSV file."""
    title: str
    digits: int
    """Decimal places in Markdown and LaTeX; the CSV file has all."""


NOISE_SCALE = "noise_scale"
COLUMNS = (
    Column("bits_per_dim", "bits/dim", 3),
    Column("L_T", "L_T", 5),
    Column("L_steps", "sum of L_{t-1}", 3),
    Column("L_0", "L_0", 3),
    Column(NOISE_SCALE, "gradient noise scale", 0),
)


class RowResults(NamedTuple):
    """A row of the table: one value of each quantity for each finished seed."""

    label: str
    values: Mapping[str, Sequence[float]]
    """Column key -> values; quantities that were not measured are absent."""
    done: int
    """Number of seeds that finished."""
    diverged: int
    """Number of seeds that diverged, which no mean includes."""
    paper: Mapping[str, str]
    """Column of the paper -> value as printed."""

    @property
    def seeds(self) -> str:
        """The number of seeds behind the row: "2", "1 (1 diverged)", "diverged" or "not run"."""
        if self.done:
            return str(self.done) + (f" ({self.diverged} diverged)" if self.diverged else "")
        return "diverged" if self.diverged else "not run"


class Table(NamedTuple):
    """The results of an ablation."""

    title: str
    caption: str
    rows: Sequence[RowResults]
    columns: Sequence[Column]

    @property
    def measured(self) -> list[Column]:
        """The columns for which some row has a value."""
        return [column for column in self.columns if any(row.values.get(column.key) for row in self.rows)]

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
        done = [result for result in own if not result["diverged"]]
        values: dict[str, list[float]] = {}
        for result in done:
            for name, value in result["results"].items():
                if value is not None:
                    values.setdefault(name, []).append(value)
        rows.append(RowResults(row.label, values, len(done), len(own) - len(done), row.paper))
    scores = dict.fromkeys(result["score"] for result in results.values() if result["score"])
    columns = [*COLUMNS, *(Column(name, name, 2) for name in scores)]
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return Table(grid.title, caption(grid, list(results.values()), seeds), rows, columns)


def caption(grid: Grid, results: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """What the spread is, and the protocol: values that differ between results are joined by "or"."""
    protocol: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result["protocol"].items():
            protocol.setdefault(name, {})[str(value)] = None
    parts = [f"{name}: {' or '.join(values)}" for name, values in protocol.items()]
    spread = f"Mean ± sample standard deviation over seeds {', '.join(map(str, seeds))} (n = {len(seeds)})."
    measured = f"Protocol: {'; '.join(parts)}." if parts else ""
    return " ".join(filter(None, [spread if len(seeds) > 1 else f"Seed {seeds[0]} (n = 1).", measured, grid.note]))


def text_table(results: Table) -> TextTable:
    """The table as text: mean ± sample standard deviation over seeds; the mean alone for one seed."""
    head = [
        "",
        "seeds",
        *(column.title for column in results.measured),
        *(f"{name} (paper)" for name in results.papers),
    ]
    rows = []
    for row in results.rows:
        values = [_mean_and_std(row.values.get(column.key, ()), column.digits) for column in results.measured]
        rows.append([row.label, row.seeds, *values, *(row.paper.get(name, "") for name in results.papers)])
    return TextTable(results.title, results.caption, head, rows)


def _mean_and_std(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    return f"{np.mean(values):.{digits}f}" + (f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else "")


def comma_separated(results: Table) -> str:
    """A CSV file with every digit: mean and sample standard deviation of each quantity, empty where undefined."""
    rows = []
    for row in results.rows:
        numbers: list[float | None] = []
        for column in results.measured:
            values = row.values.get(column.key, ())
            numbers += [float(np.mean(values)) if values else None]
            numbers += [float(np.std(values, ddof=1)) if len(values) > 1 else None]
        rows.append(
            [row.label, row.done, row.diverged, *numbers, *(row.paper.get(name, "") for name in results.papers)]
        )
    statistics = [f"{column.key}_{kind}" for column in results.measured for kind in ("mean", "std")]
    head = ["row", "done", "diverged", *statistics, *(f"paper_{name}" for name in results.papers)]
    return text_tables.comma_separated(head, rows)


def write(results: Table, folder: Path) -> list[Path]:
    """Writes table.md, table.csv and table.tex to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = text_table(results)
    contents = {
        "md": text_tables.markdown(text),
        "csv": comma_separated(results),
        "tex": text_tables.latex(text),
    }
    for suffix, content in contents.items():
        (folder / f"table.{suffix}").write_text(content)
    return [folder / f"table.{suffix}" for suffix in contents]
