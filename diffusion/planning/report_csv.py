"""Compiled programs as lines of a CSV file, in bytes, operations and seconds."""

import csv
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from diffusion.config.config_dict import placeless
from diffusion.config.config_files import ROOT
from diffusion.config.keys_with_legal_values import KEYS, RESUMABLE
from diffusion.planning import targets
from diffusion.planning.compile_for_target import Job
from diffusion.planning.memory_and_time import Estimate
from diffusion.runtime.atomic_files import written

TABLE = ROOT / "docs" / "accelerators.csv"
"""The programs of docs/accelerators.md."""
COMPILED = {"train.accumulate", "train.steps_per_dispatch"}
"""Keys that a finished run may be resumed with, and that alter its program."""
ELSEWHERE = {"train": ("sample.", "eval."), "sample": ("train.", "optim.", "objective.", "eval.")}
"""Keys that a program of this kind does not read."""


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
    config: str = ""
    """Name of the config; empty, as `settings`, in files of earlier versions."""
    settings: str = ""
    """What the function `settings` makes of the config's keys."""

    @property
    def program(self) -> tuple[object, ...]:
        """What the line is of, without its numbers."""
        return (*self[: self._fields.index("chips")], self.config, self.settings)

    @property
    def model(self) -> str:
        """A key of targets.HARDWARE."""
        return targets.parse(self.target).model


def settings(job: Job) -> str:
    """12 hex digits that name the config's keys other than their defaults, and the data, of a program.

    Keys with a column of their own do not count, nor those that alter no program, as periods and folders.
    """
    shown = ("paper", f"{job.what}.batch_size", "net.dtype", "train.sharding", *ELSEWHERE[job.what])
    changed = {key: placeless(key, x) for key, x in job.config.items() if x != KEYS[key].default}
    idle = {key for key in RESUMABLE if not key.startswith(("net.", "sample."))} - COMPILED | {"seed"}
    keys = {key: x for key, x in changed.items() if not key.startswith(shown) and key not in idle}
    return hashlib.sha256(json.dumps([keys, job.data], sort_keys=True).encode()).hexdigest()[:12]


def record(config: str, job: Job, change: str, e: Estimate) -> Record:
    """The line of an estimate; `config` is the config's name."""
    keys = job.config
    choices = (keys[f"{job.what}.batch_size"], keys["net.dtype"], keys["train.sharding"], change, e.target.name)
    memory = (e.target.chips, e.memory.total, e.usable)
    work = (e.cost.kernels, sum(e.cost.flop.values()), e.cost.bytes, e.arithmetic, e.traffic, e.links)
    return Record(keys["paper"], job.what, *choices, *memory, *work, config, settings(job))


def put(path: Path, line: Record) -> None:
    """Writes a line to a file, in place of the one of the same program. Raises ValueError and OSError like `read`."""
    lines = [old for old in read(path) if old.program != line.program] + [line]
    rows = [[f"{x:.6g}" if isinstance(x, float) else x for x in each] for each in lines]
    with written(path) as place, place.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Record._fields, *rows])


def read(path: Path) -> list[Record]:
    """The lines of a file, none of one that does not exist. Raises OSError, and ValueError for another kind of file."""
    if not path.exists():
        return []
    kinds = Record.__annotations__
    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            names = [(name, kinds[name]) for name in table.fieldnames or ()]
            return [Record(**{name: kind(row[name]) for name, kind in names}) for row in table]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"--csv={path} is another kind of file: give a table of plan.py, or a new file") from error


def where(**values: str) -> list[Record]:
    """The lines of TABLE in which these fields have these values."""
    return [line for line in read(TABLE) if all(getattr(line, name) == value for name, value in values.items())]
