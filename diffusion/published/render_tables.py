"""A table of text as Markdown, CSV or LaTeX; `tabulate` lays out the first and the last."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tabulate import tabulate

BLANK = "–"
"""Printed where a table has no number."""


class TextTable(NamedTuple):
    """A table whose cells are text, the first column its row labels."""

    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    """Lines below the table, numbered from 1."""


def markdown(table: TextTable, level: int = 1) -> str:
    """A heading of this level, the table, the caption, and the notes as a list."""
    notes = "\n".join(f"- [{i}] {text}" for i, text in enumerate(table.notes, 1))
    parts = [f"{'#' * level} {table.title}", pipe_table(table.head, table.rows), table.caption, notes]
    return "\n\n".join(filter(None, parts)) + "\n"


def latex(table: TextTable, legend: str = "") -> str:
    """A table environment that needs the package booktabs, with legend and notes below the table."""
    body = _tabulated("latex_booktabs", table.head, table.rows)
    lines = [
        *(r"\begin{table}", r"\centering", rf"\caption{{{_math(escaped(f'{table.title}. {table.caption}'))}}}"),
        *(_math(body.translate(SYMBOLS)),),
        *([r"\par\footnotesize\raggedright"] if legend or table.notes else []),
        *([escaped(legend)] if legend else []),
        *(rf"\\ {{}}[{i}] {escaped(text)}" for i, text in enumerate(table.notes, 1)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def comma_separated(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file; floats have every digit."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([head, *rows])
    return file.getvalue()


SYMBOLS = str.maketrans({"±": r"$\pm$", "≤": r"$\le$", BLANK: "--"})
ESCAPES = SYMBOLS | str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def escaped(text: str) -> str:
    """Text for LaTeX: characters that it reads as commands are escaped, ± and ≤ are symbols."""
    return text.translate(ESCAPES)


def _math(text: str) -> str:
    r"""Escaped text with the losses L\_T, L\_\{t-1\}, L\_simple and so on set as symbols."""
    return re.sub(r"\bL\\_(?:\\\{(.+?)\\\}|(\w+))", r"$L_{\1\2}$", text)


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows of a Markdown table under their head."""
    return _tabulated("pipe", head, [[text.replace("|", r"\|") for text in row] for row in rows])


def _tabulated(form: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    sides = ("left", *["right"] * (len(head) - 1))
    return tabulate(rows, head, tablefmt=form, disable_numparse=True, colalign=sides)
