"""Compiled programs as lines of a CSV file, in bytes, operations and seconds."""

import csv
from pathlib import Path
from typing import NamedTuple

from diffusion.config.config_dict import Config, flatten
from diffusion.config.config_files import ROOT
from diffusion.planning import targets
from diffusion.planning.memory_and_time import Estimate
from diffusion.runtime.atomic_files import written

TABLE = ROOT / "docs" / "accelerators.csv"
"""The programs of docs/accelerators.md."""


class Record(NamedTuple):
    """A program on one of its target's devices."""

    paper: str
    """config.paper"""
    what: str
    """A key of compile_for_target.PROGRAMS."""
    batch: int
    dtype: str
    sharding: str
    change: str
    """Of the config, by --fit."""
    target: str
    chips: int
    memory: float
    usable: float
    kernels: float
    flop: float
    bytes: float
    arithmetic: float
    traffic: float
    links: float

    @property
    def program(self) -> tuple[object, ...]:
        """What the line is of; the numbers follow."""
        return self[: self._fields.index("chips")]

    @property
    def model(self) -> str:
        """A key of targets.HARDWARE."""
        return targets.parse(self.target).model


def record(config: Config, what: str, change: str, e: Estimate) -> Record:
    """The line of an estimate."""
    keys = flatten(config)
    choices = (keys[f"{what}.batch_size"], keys["net.dtype"], keys["train.sharding"])
    work = (e.cost.kernels, sum(e.cost.flop.values()), e.cost.bytes, e.arithmetic, e.traffic, e.links)
    return Record(keys["paper"], what, *choices, change, e.target.name, e.target.chips, e.memory.total, e.usable, *work)


def put(path: Path, line: Record) -> None:
    """Writes a line to a file, in place of the one of the same program."""
    lines = read(path) if path.exists() else []
    lines = [old for old in lines if old.program != line.program] + [line]
    rows = [[f"{x:.6g}" if isinstance(x, float) else x for x in each] for each in lines]
    with written(path) as place, place.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Record._fields, *rows])


def read(path: Path) -> list[Record]:
    """The lines of a file."""
    kinds = Record.__annotations__
    with path.open(newline="") as file:
        return [Record(**{name: kinds[name](value) for name, value in row.items()}) for row in csv.DictReader(file)]


def where(**values: str) -> list[Record]:
    """The lines of TABLE in which these fields have these values."""
    return [line for line in read(TABLE) if all(getattr(line, name) == value for name, value in values.items())]
