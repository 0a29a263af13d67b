"""Which stored results fill which published cell, and why others fill none.

A result of a qualified run belongs to a cell if it has the cell's chain. Where its protocol differs from the published
one beyond that, the number does not reproduce the cell and is only shown.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion.config.config_values import flatten
from diffusion.published.cells import Measure, Table
from diffusion.published.eligible_runs import (
    StoredResult,
    bare_name,
    count,
    protocol_differences,
    run_differences,
    same_data,
    value_differences,
)


class Reading(NamedTuple):
    """A number that was measured for a cell."""

    stored: StoredResult
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
    """Tables beside stored results."""

    cells: dict[Place, tuple[Reading, ...]]
    """All readings of one cell compare with the published value, or none does; cells without a reading are absent."""
    unused: list[str]
    """Runs and results that fill no cell, a line each with the reason."""

    def fills(self, place: Place) -> bool:
        """Whether a cell was measured as published."""
        return place in self.cells and not any(reading.departs for reading in self.cells[place])


def compare(tables: Sequence[Table], results: Sequence[StoredResult]) -> Comparison:
    """The readings of every cell, and the results that fill none.

    Every run of an experiment gives a reading of its own. A result that reproduces no cell is shown in those cells
    from whose protocol it differs least.
    """
    measures = {
        (t.name, r.label, column): cell.measure for t in tables for r, column, cell in t.cells() if cell.measure
    }
    candidates = {place: list(_readings(measure, results)) for place, measure in measures.items()}
    fewest: dict[Path, int] = {}
    for reading in (r for readings in candidates.values() for r in readings):
        path, differences = reading.stored.path, len(reading.departs)
        fewest[path] = min(differences, fewest.get(path, differences))
    cells: dict[Place, tuple[Reading, ...]] = {}
    for place, readings in candidates.items():
        comparable = [r for r in readings if not r.departs]
        closest = [r for r in readings if len(r.departs) == fewest[r.stored.path]]
        if chosen := _latest(comparable) or sorted(closest, key=lambda r: (len(r.departs), *_recency(r)))[:1]:
            cells[place] = tuple(chosen)
    shown = {reading.stored.path for readings in cells.values() for reading in readings}
    return Comparison(cells, _unused([r for r in results if r.path not in shown], list(measures.values())))


def _readings(measure: Measure, results: Iterable[StoredResult]) -> Iterable[Reading]:
    """Readings from the results of the measure's experiment, metric and chain."""
    for stored in results:
        if stored.result.name != measure.metric or stored.config is None:
            continue
        protocol = flatten(stored.result.protocol)
        if value_differences(measure.chain, protocol):
            continue
        if run_differences(measure.experiment, stored.config, protocol.get("step")):
            continue
        if (value := measure.read(stored.result)) is not None:
            error = stored.result.values.get(measure.error)
            notes = value_differences(measure.loose, protocol)
            name, published = stored.config["data.name"], measure.experiment.values()["data.name"]
            if bare_name(name) != bare_name(published):
                notes.append(f"images from {name}, taken to be {published}")
            yield Reading(stored, value, error, tuple(protocol_differences(measure, protocol)), tuple(notes))


def _latest(readings: Sequence[Reading]) -> list[Reading]:
    """One reading a run: its most recent."""
    latest: dict[Path, Reading] = {}
    for reading in sorted(readings, key=_recency):
        latest.setdefault(reading.stored.folder, reading)
    return [latest[folder] for folder in sorted(latest)]


def _recency(reading: Reading) -> tuple[int, int, str]:
    """Sorts the last checkpoint first, of its results the one with the fewest notes, then by name."""
    return -count(reading.stored.result.protocol.get("step")), len(reading.notes), str(reading.stored.path)


def _unused(results: Sequence[StoredResult], measures: Sequence[Measure]) -> list[str]:
    """A line for each run and reason."""
    lines: dict[tuple[Path, str], list[str]] = {}
    for stored in results:
        key, value = next(iter(stored.result.values.items()), ("", float("nan")))
        headline = f"{stored.result.name} {key} = {value:.4g}" if key else stored.result.name
        lines.setdefault((stored.folder, _reason(stored, measures)), []).append(headline)
    return [f"{folder}: {reason} [{'; '.join(values)}]" for (folder, reason), values in lines.items()]


def _reason(stored: StoredResult, measures: Sequence[Measure]) -> str:
    """Why a result fills no cell: its run is no published experiment, or no cell has its metric and chain."""
    config, step = stored.config, stored.result.protocol.get("step")
    if config is None:
        return stored.fault
    experiments = dict.fromkeys(measure.experiment for measure in measures)
    same = [experiment for experiment in experiments if same_data(config, experiment.values())]
    if not same:
        return f"none of these tables is about the data {config['data.name']!r}"
    nearest = min(same, key=lambda experiment: len(run_differences(experiment, config, step)))
    if lines := run_differences(nearest, config, step):
        return f"not the published experiment; nearest is {nearest.name}, which differs in {'; '.join(lines)}"
    if any((m.experiment, m.metric) == (nearest, stored.result.name) for m in measures):
        return f"a {nearest.name} as published, but no cell has this chain, or another of its results fills it"
    return f"a {nearest.name} as published, but no table has this metric of it"
