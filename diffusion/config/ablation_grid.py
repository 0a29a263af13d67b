"""Ablations as data: a grid is one config and rows of changes to it; a cell is one row with one seed.

A grid file, such as configs/ablations/ho_table2.py, defines get_grid(size, overrides) -> Grid. It applies the overrides
(config key -> value) to the base before it makes rows and title of it. A new row of an ablation is a new Row in that
file. Cells are listed and checked before anything runs, without importing jax.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diffusion.config.config_dict import differences, flatten, lookup, placeless, restore
from diffusion.config.config_files import call, find
from diffusion.config.keys_with_legal_values import NO_RESULT
from diffusion.config.misspelt_names import suggestion
from diffusion.config.validation import LEARNED, SQUARED_ERRORS, validate

SEED, VARIANCE = "seed", "diffusion.variance"
RESULT = "result.json"


class Row(NamedTuple):
    """One line of an ablation table."""

    label: str
    changes: Mapping[str, Any]
    """Config key -> value; these replace values of the grid's base."""
    paper: Mapping[str, str] = MappingProxyType({})
    """The paper's values as printed: column -> value; "-" for a blank cell."""
    run: str = ""
    """Label of the row whose trained network this row evaluates; empty: the row trains its own."""

    @property
    def slug(self) -> str:
        """The label as a folder's name."""
        return re.sub(r"\W+", "_", self.label).strip("_").lower()


class Grid(NamedTuple):
    """An ablation at one size."""

    name: str
    title: str
    base: ConfigDict
    rows: Sequence[Row]
    note: str = ""
    """Remarks below the table beside its protocol, such as the source of the paper's numbers."""


class Cell(NamedTuple):
    """One row with one seed."""

    index: int
    """Its number over rows and seeds, row by row: row number times number of seeds, plus seed number."""
    row: Row
    seed: int
    config: ConfigDict
    folder: Path
    """Folder of its result, and of its run if it trains."""
    trained: Path
    """Folder of the run that it evaluates: its own, or that of the row named by row.run."""

    @property
    def trains(self) -> bool:
        """Whether the cell has a run of its own."""
        return self.trained == self.folder

    def result(self) -> dict[str, Any] | None:
        """The stored result; None before the cell is finished.

        Raises ValueError where the file is damaged, or belongs to a config that gives other results.
        """
        result = read(self.folder)
        if result is None:
            return None
        if changed := _changes(restore(result["config"]), self.config):
            keys = "; ".join(f"{key} was {stored!r} and is now {current!r}" for key, stored, current in changed)
            raise ValueError(
                f"{self.folder} holds a result of another config: {keys}. Give another --out, or delete that folder"
            )
        return result


def read(folder: Path) -> dict[str, Any] | None:
    """The result stored in a cell's folder, or None. Raises ValueError where the file is damaged."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_bytes())
        restore(result["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to run the row again") from error
    return result


def load(name: str, size: str, overrides: Mapping[str, Any] = MappingProxyType({})) -> Grid:
    """The grid of a file at a size, with overrides of its base and every row checked.

    Raises ValueError in one line for a missing or faulty file, an unknown size, an override of a key that rows set or
    that the file ignores, a row that cannot be run, and a label that gives no folder of its own.
    """
    path = find(name, "--grid", "configs/ablations")
    grid = call(path, "get_grid", size, dict(overrides))
    if not isinstance(grid, Grid):
        raise ValueError(f"{path}: get_grid(size, overrides) must return a diffusion.config.ablation_grid.Grid")
    grid.base.lock()
    for key, value in overrides.items():
        own = next((row for row in grid.rows if key in row.changes), None)
        if own or key == SEED:
            who = f"row {own.label!r} of {grid.name} sets it itself" if own else "it is set by --seeds"
            raise ValueError(f"config.{key} cannot be set over an ablation: {who}")
        if flatten(grid.base)[key] != value:
            raise ValueError(
                f"config.{key}: {path} does not apply it to its base; call "
                "config.update_from_flattened_dict(overrides) before rows and title are made"
            )
    labels: dict[str, str] = {}
    for row in grid.rows:
        check(grid, row)
        if not row.slug:
            raise ValueError(f"{grid.name}, row {row.label!r}: a label needs a letter or a digit to name a folder")
        if row.slug in labels:
            other = f"its folder {row.slug} is that of row {labels[row.slug]!r} too"
            raise ValueError(f"{grid.name}, row {row.label!r}: {other}; give it another label")
        labels[row.slug] = row.label
    return grid


def config(grid: Grid, row: Row, seed: int = 0) -> ConfigDict:
    """The config of a cell, locked."""
    cell = grid.base.copy_and_resolve_references()
    for key in row.changes:
        lookup(key)
    cell.update_from_flattened_dict({**row.changes, SEED: seed})
    cell.lock()
    return cell


def check(grid: Grid, row: Row) -> None:
    """Raises ValueError, naming grid and row, where a config is not valid or the named run does not fit."""
    try:
        validate(config(grid, row))
        if row.run:
            _check_run(grid, row)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{grid.name}, row {row.label!r}: {error}") from error


def _check_run(grid: Grid, row: Row) -> None:
    """Raises ValueError unless the run that a row evaluates is in the grid and is trained with the row's config."""
    trained = {other.label: other for other in grid.rows if not other.run}
    if row.run not in trained:
        raise ValueError(f"run = {row.run!r} is no row that trains; {suggestion(row.run, trained)}")
    for key, value, wanted in other_training(config(grid, trained[row.run]), config(grid, row)):
        raise ValueError(f"run = {row.run!r} was trained with {key} = {value!r}, not {wanted!r}; train it on its own")


def other_training(run: ConfigDict, own: ConfigDict) -> list[tuple[str, Any, Any]]:
    """(key, value in run, value in own) of each key for which a config needs another network than that of a run."""
    fixed = {own.diffusion.variance, run.diffusion.variance}.isdisjoint(LEARNED)
    free = {VARIANCE} if fixed and own.objective.name in SQUARED_ERRORS else set()
    return [d for d in _changes(run, own) if d[0] not in free and not d[0].startswith(("sample.", "eval."))]


def _changes(stored: ConfigDict, own: ConfigDict) -> list[tuple[str, Any, Any]]:
    """(key, stored value, own value) of each key that gives other results; a folder of images may have moved."""
    return [
        (key, old, new)
        for key, old, new in differences(stored, own)
        if key not in NO_RESULT and placeless(key, old) != placeless(key, new)
    ]


def cells(grid: Grid, seeds: Sequence[int], out: Path) -> list[Cell]:
    """Every cell of a grid, row by row and seed by seed, with its folder below `out`."""
    slugs = {row.label: row.slug for row in grid.rows}
    grid_cells: list[Cell] = []
    for row in grid.rows:
        for seed in seeds:
            folder = out / row.slug / f"seed_{seed}"
            trained = out / slugs[row.run] / f"seed_{seed}" if row.run else folder
            grid_cells.append(Cell(len(grid_cells), row, seed, config(grid, row, seed), folder, trained))
    return grid_cells


def parse_seeds(text: str) -> list[int]:
    """The seeds of --seeds, such as 0,1. Raises ValueError for a text that is no list of different seeds."""
    seeds = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")]
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"--seeds={text}: give different whole numbers from 0 to 4294967295, such as 0,1,2")
    return seeds


def choose(cells: Sequence[Cell], row: int | None) -> Sequence[Cell]:
    """All cells, or the one of --row. Raises ValueError for a number that no cell has."""
    if row is None:
        return cells
    if not 0 <= row < len(cells):
        raise ValueError(f"--row={row} is not one of 0..{len(cells) - 1}; --list shows them")
    return [cells[row]]


def commands(cells: Sequence[Cell], arguments: Sequence[str]) -> list[str]:
    """A shell command for each cell; after a comment, those that evaluate the runs of other cells."""
    line = {cell.index: shlex.join(["python", *arguments, f"--row={cell.index}"]) for cell in cells}
    first = [line[cell.index] for cell in cells if cell.trains]
    later = [line[cell.index] for cell in cells if not cell.trains]
    return first + (["# These evaluate runs of the above: start them when those are done.", *later] if later else [])
