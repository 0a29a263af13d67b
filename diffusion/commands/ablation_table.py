"""The table of an ablation: mean and spread over seeds beside the papers' values, as Markdown, CSV and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from diffusion.config.ablation_grid import Cell, Grid
from diffusion.published import render_tables
from diffusion.published.render_tables import TextTable


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

    def mean_and_std(self, column: Column) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over the seeds; None where undefined."""
        values = self.values.get(column.key, ())
        return fmean(values) if values else None, stdev(values) if len(values) > 1 else None


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
        done = [result["results"] for result in own if not result["diverged"]]
        names = dict.fromkeys(name for one in done for name in one)
        values = {name: [one[name] for one in done if one.get(name) is not None] for name in names}
        rows.append(RowResults(row.label, values, len(done), len(own) - len(done), row.paper))
    scores = dict.fromkeys(result["score"] for result in results.values() if result["score"])
    columns = [*COLUMNS, *(Column(name, name, 2) for name in scores)]
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return Table(grid.title, caption(grid, list(results.values()), seeds), rows, columns)


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
    titles = [*(column.title for column in results.measured), *(f"{name} (paper)" for name in results.papers)]
    rows = []
    for row in results.rows:
        values = []
        for column in results.measured:
            numbers = [f"{x:.{column.digits}f}" for x in row.mean_and_std(column) if x is not None]
            values.append(" ± ".join(numbers))
        rows.append([row.label, row.seeds, *values, *(row.paper.get(name, "") for name in results.papers)])
    return TextTable(results.title, results.caption, ["", "seeds", *titles], rows)


def comma_separated(results: Table) -> str:
    """A CSV file with every digit: mean and sample standard deviation of each quantity, empty where undefined."""
    rows = []
    for row in results.rows:
        numbers = [number for column in results.measured for number in row.mean_and_std(column)]
        papers = (row.paper.get(name, "") for name in results.papers)
        rows.append([row.label, row.done, row.diverged, *numbers, *papers])
    statistics = [f"{column.key}_{kind}" for column in results.measured for kind in ("mean", "std")]
    head = ["row", "done", "diverged", *statistics, *(f"paper_{name}" for name in results.papers)]
    return render_tables.comma_separated(head, rows)


def write(results: Table, folder: Path) -> list[Path]:
    """Writes table.md, table.csv and table.tex to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = text_table(results)
    contents = {"md": render_tables.markdown(text), "csv": comma_separated(results), "tex": render_tables.latex(text)}
    for suffix, content in contents.items():
        (folder / f"table.{suffix}").write_text(content, encoding="utf-8")
    return [folder / f"table.{suffix}" for suffix in contents]
