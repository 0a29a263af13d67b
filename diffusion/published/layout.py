"""Tables of ablations: mean and spread over seeds beside the paper's values, as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """A measured quantity."""

    key: str
    """Its name in results and in the CSV file."""
    title: str
    latex: str
    digits: int
    """Decimal places shown; the CSV file has all."""


BOUND = (
    Column("bits_per_dim", "bits/dim", "bits/dim", 3),
    Column("L_T", "L_T", "$L_T$", 5),
    Column("L_steps", "sum L_{t-1}", r"$\sum_{t>1} L_{t-1}$", 3),
    Column("L_0", "L_0", "$L_0$", 3),
)


class Line(NamedTuple):
    """A row: what was measured, one value for each finished seed."""

    label: str
    values: Mapping[str, Sequence[float]]
    """Column key -> values; a key that was not measured is not there."""
    done: int
    """Seeds that finished."""
    diverged: int
    """Seeds that diverged; they are in no mean."""
    paper: Mapping[str, str]
    """Column of the paper -> value as printed."""


class Table(NamedTuple):
    """What is written in three forms."""

    title: str
    caption: str
    lines: Sequence[Line]
    columns: Sequence[Column]

    @property
    def measured(self) -> list[Column]:
        """The columns for which some row has a value."""
        return [column for column in self.columns if any(line.values.get(column.key) for line in self.lines)]

    @property
    def papers(self) -> list[str]:
        """The paper's columns, in the order in which rows bring them up."""
        return list(dict.fromkeys(name for line in self.lines for name in line.paper))


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the latter is NaN for a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def shown(values: Sequence[float], digits: int, plus_minus: str = " ± ") -> str:
    """Mean ± standard deviation of the seeds; the mean alone for one seed, nothing for none."""
    if not values:
        return ""
    mean, std = mean_and_std(values)
    return f"{mean:.{digits}f}" + (f"{plus_minus}{std:.{digits}f}" if len(values) > 1 else "")


def outcome(line: Line) -> str:
    """How many seeds stand behind a row: "2", "1 (1 diverged)", "diverged", "not run"."""
    if line.done:
        return str(line.done) + (f" ({line.diverged} diverged)" if line.diverged else "")
    return "diverged" if line.diverged else "not run"


def markdown(table: Table) -> str:
    """A Markdown table under its title, with its caption below."""
    head = ["", "seeds", *(c.title for c in table.measured), *(f"{name} (paper)" for name in table.papers)]
    rows = [
        [
            line.label,
            outcome(line),
            *(shown(line.values.get(c.key, ()), c.digits) for c in table.measured),
            *(line.paper.get(name, "") for name in table.papers),
        ]
        for line in table.lines
    ]
    rule = ["---", *["---:"] * (len(head) - 1)]
    text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in [head, rule, *rows])
    return f"# {table.title}\n\n{text}\n\n{table.caption}\n"


def comma_separated(table: Table) -> str:
    """A CSV file with every digit: mean and sample standard deviation of each quantity, empty where there is none."""
    sums = [f"{column.key}_{kind}" for column in table.measured for kind in ("mean", "std")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "done", "diverged", *sums, *(f"paper_{name}" for name in table.papers)])
    for line in table.lines:
        numbers = [mean_and_std(v) if (v := line.values.get(c.key)) else (np.nan, np.nan) for c in table.measured]
        flat = ["" if np.isnan(number) else repr(number) for pair in numbers for number in pair]
        papers = [line.paper.get(name, "") for name in table.papers]
        writer.writerow([line.label, line.done, line.diverged, *flat, *papers])
    return file.getvalue()


def latex(table: Table) -> str:
    """A LaTeX table environment with booktabs rules."""
    head = ["", "seeds", *(c.latex for c in table.measured), *(f"{escaped(name)} (paper)" for name in table.papers)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}. {escaped(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    for line in table.lines:
        values = (shown(line.values.get(c.key, ()), c.digits, r" \pm ") for c in table.measured)
        cells = [escaped(line.label), escaped(outcome(line)), *(f"${v}$" if v else "" for v in values)]
        papers = (escaped(line.paper.get(name, "")) for name in table.papers)
        lines.append(" & ".join([*cells, *papers]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≤": r"$\le$"}
)


def escaped(text: str) -> str:
    """Text with the characters that LaTeX reads as commands made harmless."""
    return text.translate(ESCAPES)
