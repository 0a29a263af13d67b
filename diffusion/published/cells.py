"""What a published table is made of: cells, each with the value as printed, the run that gives it and the protocol."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diffusion.config.config import flatten
from diffusion.config.files import find, load, override
from diffusion.workdir.results import Result

NOTHING: Mapping[str, Any] = MappingProxyType({})
BLANK = "–"
"""What a table prints where it has no number."""

NUMBER = re.compile(r"\d+(?:\.(\d+))?")


class Experiment(NamedTuple):
    """A training run as published: a config file and what is set over it."""

    name: str
    """Of its folder below runs/."""
    config: str
    """The file, from the project's root."""
    forward: float
    """Floating-point operations of one network evaluation of one image."""
    changes: tuple[tuple[str, str], ...] = ()
    """(key, text), as --config.KEY=TEXT sets them over the file."""
    released: int = 0
    """Step of the checkpoint that the authors released; 0: none, or the last step."""

    def resolve(self) -> ConfigDict:
        """Its config. Raises ValueError where file or changes are faulty."""
        return _resolve(self)

    def values(self) -> dict[str, Any]:
        """Its config, flat."""
        return _values(self)

    def train_flop(self) -> float:
        """Floating-point operations of its training: a step is three forward passes of a batch."""
        train = self.resolve().train
        return 3 * self.forward * train.batch_size * train.steps


@cache
def _resolve(experiment: Experiment) -> ConfigDict:
    config = load(find(experiment.config))
    for key, text in experiment.changes:
        override(config, key, text)
    return config


@cache
def _values(experiment: Experiment) -> dict[str, Any]:
    return flatten(experiment.resolve())


class Measure(NamedTuple):
    """How a cell is measured: on which run, which number of which result, under which protocol."""

    experiment: Experiment
    metric: str
    """Name of the result, such as "fid"."""
    read: Callable[[Result], float | None]
    """The number in it; None where it has none."""
    images: int
    """Samples scored, or images of the bound."""
    exact: bool
    """Whether more images than those are another measurement, as with FID, whose bias depends on their number."""
    chain: Mapping[str, Any]
    """Protocol keys that say which chain is measured: a result with another value is of another cell."""
    binding: Mapping[str, Any]
    """Protocol keys without whose values the number does not compare with the published one."""
    loose: Mapping[str, Any] = NOTHING
    """Protocol keys whose other values are noted beside the number."""
    error: str = ""
    """Key of the value that is its spread or standard error."""
    evaluations: int = 0
    """Network evaluations per image."""
    flags: tuple[str, ...] = ()
    """What scripts/evaluate.py is told beside --workdir."""

    def flop(self) -> float:
        """Floating-point operations of measuring it: those of the network alone."""
        return self.images * self.evaluations * self.experiment.forward


class Cell(NamedTuple):
    """One published value."""

    printed: str
    measure: Measure | None = None
    """None where it is another model's."""

    @property
    def value(self) -> float | None:
        """The number that is printed, without bound and spread; None where the cell is blank."""
        found = NUMBER.search(self.printed)
        return float(found[0]) if found else None

    @property
    def digits(self) -> int:
        """Decimal places printed; 2 for a blank cell."""
        found = NUMBER.search(self.printed)
        return len(found[1] or "") if found else 2


class Row(NamedTuple):
    """One line of a table."""

    label: str
    cells: Mapping[str, Cell]
    """Column -> cell; a column that is not there is empty in print."""


class Table(NamedTuple):
    """One published table."""

    name: str
    """As --table takes it."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: str
    """How the authors measured, as far as they say."""

    def cells(self) -> list[tuple[Row, str, Cell]]:
        """(row, column, cell) of every cell, in the order of reading."""
        return [(row, column, row.cells[column]) for row in self.rows for column in self.columns if column in row.cells]


def line(label: str, columns: tuple[str, ...], printed: str, *measures: Measure | None) -> Row:
    """A row from values separated by "|", empty ones left out, and one measure for each column or none at all."""
    texts = [text.strip() for text in printed.split("|")]
    ways = measures or (None,) * len(columns)
    return Row(label, {c: Cell(text, way) for c, text, way in zip(columns, texts, ways, strict=True) if text})
