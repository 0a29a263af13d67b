"""Published tables with our measurements beside them, as Markdown, CSV and LaTeX."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from diffusion.config.config import flatten
from diffusion.published.cells import BLANK, Cell, Table
from diffusion.published.filling import Comparison, Place, Reading
from diffusion.published.layout import escaped

LEGEND = (
    f"{BLANK} in a column of ours: not measured. In parentheses: ours minus published. *: measured under a protocol "
    "that departs from the published one as its note says: it does not reproduce the cell, and no difference is taken."
)
LEFT = "Runs and results that are in no cell"

SAID = ("weights", "images", "split", "sampler", "grid", "eta", "clip", "seed", "quantisation", "resize")
ALSO = ("reference.data", "reference.split", "reference.images", "features", "precision", "devices", "revision")
"""What a note says of a protocol, in this order, where the protocol has it."""


def difference(cell: Cell, readings: Sequence[Reading]) -> float | None:
    """Mean over the runs minus the published value; None where there is no number, or none that compares."""
    value = cell.value
    if not readings or value is None or any(reading.departs for reading in readings):
        return None
    found = mean(readings) - value
    return found if math.isfinite(found) else None


def mean(readings: Sequence[Reading]) -> float:
    """Over runs."""
    return sum(reading.value for reading in readings) / len(readings)


class Notes:
    """The notes of a table: each result under each remark once, numbered from 1."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def number(self, reading: Reading) -> int:
        """The number of the note on a reading, which is added if it is new."""
        text = note(reading)
        if text not in self.lines:
            self.lines.append(text)
        return self.lines.index(text) + 1


def note(reading: Reading) -> str:
    """Where a number comes from, its protocol, and how that departs from the published one."""
    protocol = flatten(reading.found.result.protocol)
    step = protocol.get("step")
    parts = [f"{key.replace('.', ' ')} {_plain(protocol[key])}" for key in (*SAID, *ALSO) if _given(protocol.get(key))]
    text = f"{reading.found.path}: " + ", ".join([*([f"step {step:,}"] if isinstance(step, int) else []), *parts])
    for title, remarks in (("Departs in", reading.departs), ("Not as published", reading.notes)):
        text += f". {title}: {'; '.join(remarks)}" if remarks else ""
    return text


def _given(value: Any) -> bool:
    return value is not None and bool(str(value))


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def shown(cell: Cell, readings: Sequence[Reading], notes: Notes, plus_minus: str = " ± ") -> str:
    """Our side of a cell: value, spread, difference, number of runs where there are several, notes; a dash for nothing.

    For one run the spread is that of its result, for several their sample standard deviation.
    """
    if not readings:
        return BLANK
    value, numbers = mean(readings), ", ".join(str(notes.number(reading)) for reading in readings)
    if not math.isfinite(value):
        return f"not finite [{numbers}]"
    spread = readings[0].error
    if len(readings) > 1:
        spread = math.sqrt(sum((reading.value - value) ** 2 for reading in readings) / (len(readings) - 1))
    text = f"{value:.{cell.digits}f}"
    if spread is not None and math.isfinite(spread):
        text += f"{plus_minus}{spread:.{max(cell.digits, 2)}f}"
    text += "*" if readings[0].departs else ""
    changed = difference(cell, readings)
    inside = [*([f"{changed:+.{cell.digits}f}"] if changed is not None else [])]
    inside += [f"{len(readings)} runs"] if len(readings) > 1 else []
    return text + (f" ({', '.join(inside)})" if inside else "") + f" [{numbers}]"


def _grid(table: Table, found: Comparison, notes: Notes, plus_minus: str = " ± ") -> tuple[list[str], list[list[str]]]:
    """Head and rows; a column of ours follows each published one that some run of ours can be measured for."""
    ours = [column for column in table.columns if any(c.measure for _, name, c in table.cells() if name == column)]
    head = ["", *(text for column in table.columns for text in [column, *(["ours"] if column in ours else [])])]
    rows = []
    for row in table.rows:
        texts = [row.label]
        for column in table.columns:
            cell = row.cells.get(column)
            texts.append(cell.printed if cell else "")
            if column in ours:
                place: Place = (table.name, row.label, column)
                measured = cell is not None and cell.measure is not None
                texts.append(shown(cell, found.cells.get(place, ()), notes, plus_minus) if cell and measured else "")
        rows.append(texts)
    return head, rows


def markdown(tables: Sequence[Table], found: Comparison) -> str:
    """Tables one below the other, each with its protocol and notes; what is in no cell at the end."""
    parts = []
    for table in tables:
        notes = Notes()
        head, rows = _grid(table, found, notes)
        rule = ["---", *["---:"] * (len(head) - 1)]
        lines = ["| " + " | ".join(text.replace("|", r"\|") for text in row) + " |" for row in [head, rule, *rows]]
        numbered = [f"- [{i}] {text}" for i, text in enumerate(notes.lines, 1)]
        parts += [f"## {table.title}", "\n".join(lines), table.protocol, *(["\n".join(numbered)] if numbered else [])]
    parts.append(LEGEND)
    if found.left:
        parts += [f"## {LEFT}", "\n".join(f"- {text}" for text in found.left)]
    return "\n\n".join(parts) + "\n"


CSV_HEAD = (
    "table",
    "row",
    "column",
    "published",
    "value",
    "measured",
    "difference",
    "runs",
    "fills",
    "departs",
    "notes",
)


def comma_separated(tables: Sequence[Table], found: Comparison) -> str:
    """One line a cell, with every digit; empty where there is nothing."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*CSV_HEAD, "results"])
    for table in tables:
        for row, column, cell in table.cells():
            place: Place = (table.name, row.label, column)
            readings = found.cells.get(place, ())
            writer.writerow(
                [
                    *(*place, cell.printed, _exact(cell.value)),
                    *(_exact(mean(readings)) if readings else "", _exact(difference(cell, readings))),
                    *(len(readings), "yes" if found.fills(place) else "no"),
                    "; ".join(dict.fromkeys(text for reading in readings for text in reading.departs)),
                    "; ".join(dict.fromkeys(text for reading in readings for text in reading.notes)),
                    "; ".join(str(reading.found.path) for reading in readings),
                ]
            )
    return file.getvalue()


def _exact(number: float | None) -> str:
    return "" if number is None else repr(number)


def latex(tables: Sequence[Table], found: Comparison) -> str:
    """A table environment with booktabs rules for each table; what is in no cell as comments at the end."""
    parts = []
    for table in tables:
        notes = Notes()
        head, rows = _grid(table, found, notes)
        body = [" & ".join(map(_latex, row)) + r" \\" for row in rows]
        numbered = [rf"\\ {{}}[{i}] {_latex(text)}" for i, text in enumerate(notes.lines, 1)]
        parts += [
            *(r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.title)}. {_latex(table.protocol)}}}"),
            *(rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"),
            *(" & ".join(map(_latex, head)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}"),
            *(r"\par\footnotesize\raggedright", _latex(LEGEND), *numbered, r"\end{table}", ""),
        ]
    left = [f"% {LEFT}:", *(f"% {text}" for text in found.left)] if found.left else []
    return "\n".join([*parts, *left]) + "\n"


def _latex(text: str) -> str:
    return escaped(text).replace(BLANK, "--")


FORMATS: dict[str, Callable[[Sequence[Table], Comparison], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}
