"""Ablations as data: a grid is one config and rows of changes to it; a cell is one row with one seed.

A grid file, such as configs/ablations/ho_table2.py, defines get_grid(size) -> Grid. Adding a row to an ablation is
adding a Row there. Nothing heavy is imported here: cells are listed and checked before anything is run.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diffusion.config.config import differences, lookup, restore
from diffusion.config.files import call, find
from diffusion.config.ranges import closest_name
from diffusion.config.schema import NO_RESULT
from diffusion.config.validation import LEARNED, SQUARED_ERRORS, validate

SEED, VARIANCE = "seed", "diffusion.variance"
RESULT = "result.json"


class Row(NamedTuple):
    """One line of an ablation table."""

    label: str
    changes: Mapping[str, Any]
    """Config key -> value, over the grid's base."""
    paper: Mapping[str, str] = MappingProxyType({})
    """What the paper reports, as printed: column -> value; "-" where it leaves a cell blank."""
    run: str = ""
    """Label of the row whose trained network this one evaluates in another way; empty: it trains its own."""

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
    """What a reader of the table must know beside its protocol, such as where the paper's numbers come from."""


class Cell(NamedTuple):
    """One row with one seed."""

    index: int
    """Its number over rows and seeds, row by row: row number times number of seeds, plus seed number."""
    row: Row
    seed: int
    config: ConfigDict
    folder: Path
    """Where its result goes; its run's folder too, if it trains."""
    trained: Path
    """Folder of the run that it evaluates: its own, or that of the row named by row.run."""

    @property
    def trains(self) -> bool:
        """Whether the cell has a run of its own."""
        return self.trained == self.folder

    def result(self) -> dict[str, Any] | None:
        """Its finished result; None if there is none yet.

        Raises ValueError where the file is damaged, or was made with a config that gives other results.
        """
        found = read(self.folder)
        if found is None:
            return None
        changed = [d for d in differences(restore(found["config"]), self.config) if d[0] not in NO_RESULT]
        if changed:
            keys = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in changed)
            raise ValueError(
                f"{self.folder} holds a result of another config: {keys}. Give another --out, or delete that folder"
            )
        return found


def read(folder: Path) -> dict[str, Any] | None:
    """The result in a cell's folder, None if there is none. Raises ValueError where the file is damaged."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        restore(found["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to run the row again") from error
    return found


def load(given: str, size: str, overrides: Mapping[str, Any] = MappingProxyType({})) -> Grid:
    """The grid of a file at a size, its base changed by overrides, every row checked.

    Raises ValueError in one line for a file that is not there or faulty, a size that the grid does not have, a key that
    the rows set themselves, and any row that cannot be run.
    """
    path = find(given, "--grid", "configs/ablations")
    grid = call(path, "get_grid", size)
    if not isinstance(grid, Grid):
        raise ValueError(f"{path}: get_grid(size) must return a diffusion.config.ablation.Grid")
    grid.base.lock()
    grid.base.update_from_flattened_dict(dict(overrides))
    for key in overrides:
        setter = next((row for row in grid.rows if key in row.changes), None)
        if setter or key == SEED:
            who = f"row {setter.label!r} of {grid.name} sets it itself" if setter else "it is set by --seeds"
            raise ValueError(f"config.{key} cannot be set over an ablation: {who}")
    for row in grid.rows:
        check(grid, row)
    return grid


def config(grid: Grid, row: Row, seed: int = 0) -> ConfigDict:
    """The config of a cell, locked."""
    made = grid.base.copy_and_resolve_references()
    for key in row.changes:
        lookup(key)
    made.update_from_flattened_dict({**row.changes, SEED: seed})
    made.lock()
    return made


def check(grid: Grid, row: Row) -> None:
    """Raises ValueError, naming grid and row, where a row is no experiment or cannot use the run that it names."""
    try:
        ours = config(grid, row)
        validate(ours)
        same = [other.label for other in grid.rows if other.slug == row.slug]
        if len(same) > 1:
            raise ValueError(f"its folder would be that of {' and '.join(map(repr, same))}; give it another label")
        if row.run:
            _check_run(grid, row, ours)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{grid.name}, row {row.label!r}: {error}") from error


def _check_run(grid: Grid, row: Row, ours: ConfigDict) -> None:
    """Whether the run that a row evaluates is there and was trained as this row's config says."""
    trained = {other.label: other for other in grid.rows if not other.run}
    if row.run not in trained:
        best = closest_name(row.run, trained)
        hint = f"did you mean {best!r}?" if best else f"there are {', '.join(map(repr, trained))}"
        raise ValueError(f"run = {row.run!r} is no row that trains; {hint}")
    theirs = config(grid, trained[row.run])
    fixed = {ours.diffusion.variance, theirs.diffusion.variance}.isdisjoint(LEARNED)
    free = {VARIANCE} if fixed and ours.objective.name in SQUARED_ERRORS else set()
    for key, there, here in differences(theirs, ours):
        if key not in NO_RESULT | free and not key.startswith(("sample.", "eval.")):
            raise ValueError(f"run = {row.run!r} was trained with {key} = {there!r}, not {here!r}; train it on its own")


def cells(grid: Grid, seeds: Sequence[int], out: Path) -> list[Cell]:
    """Every cell of a grid, row by row and seed by seed, with its folder below `out`."""
    slugs = {row.label: row.slug for row in grid.rows}
    made = []
    for row in grid.rows:
        for seed in seeds:
            folder = out / row.slug / f"seed_{seed}"
            trained = out / slugs[row.run] / f"seed_{seed}" if row.run else folder
            made.append(Cell(len(made), row, seed, config(grid, row, seed), folder, trained))
    return made


def parse_seeds(text: str) -> list[int]:
    """The seeds of --seeds, such as 0,1. Raises ValueError for a text that is no list of different seeds."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--seeds={text}: give whole numbers, such as --seeds=0,1,2") from error
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"--seeds={text}: give different numbers from 0 to 4294967295")
    return seeds


def choose(cells: Sequence[Cell], row: int | None) -> Sequence[Cell]:
    """All cells, or the one of --row. Raises ValueError for a number that no cell has."""
    if row is None:
        return cells
    if not 0 <= row < len(cells):
        raise ValueError(f"--row={row} is not one of 0..{len(cells) - 1}; --list shows them")
    return [cells[row]]


def commands(made: Sequence[Cell], arguments: Sequence[str]) -> list[str]:
    """A shell command for each cell; those that evaluate the run of another come last, after a comment that says so."""
    line = {cell.index: shlex.join(["python", *arguments, f"--row={cell.index}"]) for cell in made}
    first = [line[cell.index] for cell in made if cell.trains]
    later = [line[cell.index] for cell in made if not cell.trains]
    return first + (["# These evaluate runs of the above: start them when those are done.", *later] if later else [])
