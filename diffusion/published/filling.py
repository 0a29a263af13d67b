"""Which results of our runs stand in which published cell, and why others stand in none.

A result of a qualified run belongs to a cell if it is of the cell's chain. Where its protocol departs from the
published one beyond that, the number does not reproduce the cell and is only shown.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion.config.config import flatten
from diffusion.published.cells import Cell, Experiment, Measure, Table
from diffusion.published.eligibility import Found, bare, count, departs, departures, same_data, unlike
from diffusion.workdir.results import Result


class Reading(NamedTuple):
    """A number that was measured for a cell."""

    found: Found
    value: float
    error: float | None
    """Its spread or standard error, where the result has one."""
    departs: tuple[str, ...]
    """What keeps it from comparing with the published number."""
    notes: tuple[str, ...]
    """Smaller differences."""


Place = tuple[str, str, str]
"""Names of table, row and column."""


class Comparison(NamedTuple):
    """What was found for tables."""

    cells: dict[Place, tuple[Reading, ...]]
    """Those of one cell agree in whether they depart; a cell for which there is nothing is not there."""
    left: list[str]
    """The runs and results that are in no cell, a line each with the reason."""

    def fills(self, place: Place) -> bool:
        """Whether a cell was measured as published."""
        return place in self.cells and not any(reading.departs for reading in self.cells[place])


def compare(tables: Sequence[Table], found: Sequence[Found]) -> Comparison:
    """The readings of every cell, and what is left over.

    Of several runs of one experiment each has its say. A result that reproduces no cell is shown in those from whose
    protocol it departs least.
    """
    every = {(t.name, r.label, column): cell for t in tables for r, column, cell in t.cells() if cell.measure}
    candidates = {place: list(_readings(cell, found)) for place, cell in every.items()}
    exact = {place: [r for r in readings if not r.departs] for place, readings in candidates.items()}
    least: dict[Path, int] = {}
    for reading in (r for readings in candidates.values() for r in readings):
        least[reading.found.path] = min(len(reading.departs), least.get(reading.found.path, len(reading.departs)))
    cells: dict[Place, tuple[Reading, ...]] = {}
    for place, readings in candidates.items():
        others = [r for r in readings if len(r.departs) == least[r.found.path]]
        if chosen := _latest(exact[place]) or sorted(others, key=_distance)[:1]:
            cells[place] = tuple(chosen)
    shown = {reading.found.path for readings in cells.values() for reading in readings}
    experiments = list(dict.fromkeys(cell.measure.experiment for cell in every.values() if cell.measure))
    metrics = {(cell.measure.experiment, cell.measure.metric) for cell in every.values() if cell.measure}
    return Comparison(cells, _left([f for f in found if f.path not in shown], experiments, metrics))


def _readings(cell: Cell, found: Iterable[Found]) -> Iterable[Reading]:
    """The results of the cell's experiment, metric and chain."""
    measure = cell.measure
    for f in found if measure else ():
        assert measure is not None
        if f.result.name != measure.metric or f.config is None:
            continue
        protocol = flatten(f.result.protocol)
        if unlike(measure.chain, protocol) or departures(measure.experiment, f.config, protocol.get("step")):
            continue
        if (value := measure.read(f.result)) is not None:
            error = f.result.values.get(measure.error)
            notes = (*unlike(measure.loose, protocol), *_source(measure, f))
            yield Reading(f, value, error, tuple(departs(measure, protocol)), notes)


def _source(measure: Measure, found: Found) -> list[str]:
    """A remark where the images were taken from a folder of the user's."""
    name, published = (found.config or {}).get("data.name", ""), measure.experiment.values()["data.name"]
    return [] if bare(name) == bare(published) else [f"images from {name}, taken to be {published}"]


def _latest(readings: Sequence[Reading]) -> list[Reading]:
    """One reading a run, the first in the order of recency."""
    kept: dict[Path, Reading] = {}
    for reading in sorted(readings, key=_recency):
        kept.setdefault(reading.found.folder, reading)
    return [kept[folder] for folder in sorted(kept)]


def _recency(reading: Reading) -> tuple[int, int, str]:
    """The last checkpoint first, of its results those with the fewest notes, then by name."""
    return -count(reading.found.result.protocol.get("step")), len(reading.notes), str(reading.found.path)


def _distance(reading: Reading) -> tuple:
    """Fewest departures first, then most images."""
    return len(reading.departs), -count(reading.found.result.protocol.get("images")), str(reading.found.path)


def _left(found: Sequence[Found], experiments: Sequence[Experiment], metrics: set[tuple[Experiment, str]]) -> list[str]:
    """A line for each run and reason."""
    lines: dict[tuple[Path, str], list[str]] = {}
    for f in found:
        lines.setdefault((f.folder, _reason(f, experiments, metrics)), []).append(_headline(f.result))
    return [f"{folder}: {reason} [{'; '.join(values)}]" for (folder, reason), values in lines.items()]


def _reason(found: Found, experiments: Sequence[Experiment], metrics: set[tuple[Experiment, str]]) -> str:
    """Why a result is in no cell: its run is none of the published ones, or no cell asks for it."""
    config, step = found.config, found.result.protocol.get("step")
    if config is None:
        return found.fault
    near = [e for e in experiments if same_data(config, e.values())]
    if not near:
        return f"none of these tables is about the data {config['data.name']!r}"
    best = min(near, key=lambda e: len(departures(e, config, step)))
    if lines := departures(best, config, step):
        return f"not the published experiment; nearest is {best.name}, from which it departs in {'; '.join(lines)}"
    if (best, found.result.name) in metrics:
        return f"a {best.name} as published, but no cell is of this chain, or another of its results stands there"
    return f"a {best.name} as published, but no table has this metric of it"


def _headline(result: Result) -> str:
    """A result in a word: its name and first value."""
    key, value = next(iter(result.values.items()), ("", float("nan")))
    return f"{result.name} {key} = {value:.4g}" if key else result.name
