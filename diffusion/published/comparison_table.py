"""Published tables with the measured values beside the printed ones, as Markdown, CSV and LaTeX."""

import math
from collections.abc import Callable, Sequence

from diffusion.config.config_dict import flatten
from diffusion.published import render_tables
from diffusion.published.match_results_to_cells import Comparison, Reading
from diffusion.published.render_tables import BLANK, TextTable
from diffusion.published.table_types import Cell, Table

LEGEND = (
    f'{BLANK} under "measured": no result. In parentheses: measured minus published. *: the protocol differs from the '
    "published one as the note says, so the number does not reproduce the cell and has no difference. Of several runs "
    "of one experiment a cell shows one, which the note names; the others are listed below the tables."
)
UNUSED = "Runs and results that fill no cell"

NOTED = (
    *("step", "weights", "images", "split", "sampler", "grid", "eta", "clip", "seed", "quantisation", "resize"),
    *("reference.data", "reference.split", "reference.images", "features", "precision", "devices", "revision"),
)
"""The protocol keys that a note lists, in this order, where the protocol has them."""


def difference(cell: Cell, reading: Reading | None) -> float | None:
    """Measured minus published value; None without a published number or a comparable measurement."""
    if reading is None or cell.value is None or reading.departs or not math.isfinite(reading.value):
        return None
    return reading.value - cell.value


def note(reading: Reading) -> str:
    """The file of a number, its protocol, and how that differs from the published one."""
    protocol = flatten(reading.stored.result.protocol)
    stated = {key: value for key in NOTED if (value := protocol.get(key)) is not None and str(value)}
    parts = [f"{key.replace('.', ' ')} {value}" for key, value in stated.items()]
    text = f"{reading.stored.path}: {', '.join(parts)}"
    for title, remarks in (("Departs in", reading.departs), ("Not as published", reading.notes)):
        text += f". {title}: {'; '.join(remarks)}" if remarks else ""
    return text


def measured(cell: Cell, reading: Reading | None, notes: list[str]) -> str:
    """The text of a measured value: value ± spread (difference) [note]; a dash without a measurement.

    A new note is appended.
    """
    if reading is None:
        return BLANK
    if (remark := note(reading)) not in notes:
        notes.append(remark)
    number = f"[{notes.index(remark) + 1}]"
    if not math.isfinite(reading.value):
        return f"not finite {number}"
    text = f"{reading.value:.{cell.digits}f}"
    if reading.error is not None and math.isfinite(reading.error):
        text += f" ± {reading.error:.{max(cell.digits, 2)}f}"
    text += "*" if reading.departs else ""
    change = difference(cell, reading)
    return f"{text} {number}" if change is None else f"{text} ({change:+.{cell.digits}f}) {number}"


def text_table(table: Table, comparison: Comparison) -> TextTable:
    """The table as text; a column "measured" follows each published one in which some cell can be measured."""
    both = [column for column in table.columns if any(c.measure for _, name, c in table.cells() if name == column)]
    head = ["", *(text for column in table.columns for text in [column, *(["measured"] if column in both else [])])]
    rows, notes = [], []
    for row in table.rows:
        texts = [row.label]
        for column in table.columns:
            cell = row.cells.get(column)
            texts.append(cell.printed if cell else "")
            if column in both:
                reading = comparison.cells.get((table.name, row.label, column))
                texts.append(measured(cell, reading, notes) if cell and cell.measure else "")
        rows.append(texts)
    return TextTable(table.title, table.protocol, head, rows, notes)


def markdown(tables: Sequence[Table], comparison: Comparison) -> str:
    """All tables, each with its protocol and notes, then the results that fill no cell."""
    parts = [render_tables.markdown(text_table(table, comparison), level=2) for table in tables]
    parts.append(LEGEND + "\n")
    if comparison.unused:
        parts.append(f"## {UNUSED}\n\n" + "".join(f"- {text}\n" for text in comparison.unused))
    return "\n".join(parts)


CSV_HEAD = (
    *("table", "row", "column", "published", "value", "measured", "difference", "fills", "departs", "notes", "result"),
)


def comma_separated(tables: Sequence[Table], comparison: Comparison) -> str:
    """One line a cell, with every digit; empty where there is no value."""
    rows = []
    for table in tables:
        for row, column, cell in table.cells():
            place = (table.name, row.label, column)
            reading, number, texts = comparison.cells.get(place), "", ("", "", "")
            fills = "yes" if comparison.fills(place) else "no"
            if reading:
                number = reading.value
                texts = ("; ".join(reading.departs), "; ".join(reading.notes), reading.stored.path)
            rows.append((*place, cell.printed, cell.value, number, difference(cell, reading), fills, *texts))
    return render_tables.comma_separated(CSV_HEAD, rows)


def latex(tables: Sequence[Table], comparison: Comparison) -> str:
    """A table environment for each table; results that fill no cell are comments at the end."""
    parts = [render_tables.latex(text_table(table, comparison), LEGEND) for table in tables]
    if comparison.unused:
        parts.append("".join(f"% {text}\n" for text in (f"{UNUSED}:", *comparison.unused)))
    return "\n".join(parts)


FORMATS: dict[str, Callable[[Sequence[Table], Comparison], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}
