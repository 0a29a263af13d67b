"""A published table as data: its cells, each with the value as printed and how it is measured."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.config.config_files import load
from diffusion.workdir.result_files import Result

NUMBER = re.compile(r"\d+(?:\.(\d+))?")


class Experiment(NamedTuple):
    """A training run as published: a config file and the keys that differ from it."""

    name: str
    """Name of its folder below runs/."""
    config: str
    """Path of the config file, from the project's root."""
    changes: tuple[tuple[str, Any], ...] = ()
    """(key, value), as --config.KEY=VALUE sets them."""
    released: int = 0
    """Step of the checkpoint that the authors released; 0: none, or the last step."""

    @cache  # noqa: B019  the published experiments are constants
    def resolve(self) -> ConfigDict:
        """Its config. Raises ValueError where file or changes are faulty."""
        config = load(self.config)
        config.update_from_flattened_dict(dict(self.changes))
        return config

    @cache  # noqa: B019
    def values(self) -> dict[str, Any]:
        """Its config, flat."""
        return flatten(self.resolve())


class Measure(NamedTuple):
    """How a cell is measured: on which run, which number of which result, under which protocol."""

    experiment: Experiment
    metric: str
    """Name of the result, such as "fid"."""
    read: Callable[[Result], float | None]
    """The number in a result; None where it has none."""
    images: int
    """Number of samples scored, or of images of the bound."""
    chain: Mapping[str, Any]
    """Protocol keys of chain and split: a result with another value belongs to another cell."""
    binding: Mapping[str, Any]
    """Protocol keys that must agree for the number to compare with the published one."""
    loose: Mapping[str, Any] = MappingProxyType({})
    """Protocol keys whose other values are only noted beside the number."""
    flags: tuple[str, ...] = ()
    """Flags of scripts/evaluate.py beside --workdir and --step."""
    exact: bool = False
    """Whether another number of images is another metric, as with FID, whose bias depends on it."""
    error: str = ""
    """Key of the result's spread or standard error."""


class Cell(NamedTuple):
    """One published value."""

    printed: str
    measure: Measure | None = None
    """None for models that this project does not implement."""

    @property
    def value(self) -> float | None:
        """The printed number without bound and spread; None for a blank cell."""
        match = NUMBER.search(self.printed)
        return float(match[0]) if match else None

    @property
    def digits(self) -> int:
        """Decimal places printed; 2 for a blank cell."""
        match = NUMBER.search(self.printed)
        return len(match[1] or "") if match else 2


class Row(NamedTuple):
    """One line of a table."""

    label: str
    cells: Mapping[str, Cell]
    """Column -> cell; columns that are empty in print are absent."""


class Table(NamedTuple):
    """One published table."""

    name: str
    """As --table takes it."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    protocol: str
    """How the authors measured, as far as they state it."""

    def cells(self) -> list[tuple[Row, str, Cell]]:
        """(row, column, cell) of every cell, in reading order."""
        return [(row, column, row.cells[column]) for row in self.rows for column in self.columns if column in row.cells]


def line(label: str, columns: tuple[str, ...], printed: str, *measures: Measure | None) -> Row:
    """A row from values separated by "|", where empty ones are left out, and one measure a column or none at all."""
    texts = [text.strip() for text in printed.split("|")]
    cells = zip(columns, texts, measures or (None,) * len(columns), strict=True)
    return Row(label, {column: Cell(text, measure) for column, text, measure in cells if text})
